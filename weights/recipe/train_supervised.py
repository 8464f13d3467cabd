"""Stage one: supervised on synthetic degradation.

    python train_supervised.py --data DATA --work WORK [--size sonolume-s] [--steps N] [--minutes M] [--resume]

Writes WORK/supervised.pt (everything needed to resume), WORK/supervised-ema.pt (weights) and WORK/supervised.log.
"""

from __future__ import annotations

import argparse
import math
import os
import queue
import threading
import time
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

import data
import export
import model
from degrade import degrade
from losses import psnr, ssim


def device_of(name: str) -> torch.device:
    return torch.device(name if name != "auto" else "cuda" if torch.cuda.is_available() else "cpu")


def save(obj, path: Path):
    torch.save(obj, str(path) + ".part")
    os.replace(str(path) + ".part", path)


class Ahead:
    """Makes items in a background thread, a few ahead, in order; each comes with the generator's state after it, so
    that a resumed run goes on with the same items."""

    def __init__(self, make, rng, depth: int = 3):
        self.queue = queue.Queue(depth)

        def work():
            while True:
                item = make()
                self.queue.put((item, rng.bit_generator.state))

        threading.Thread(target=work, daemon=True).start()

    def next(self):
        return self.queue.get()


class Ema:
    def __init__(self, net, decay):
        self.decay, self.state = decay, {k: v.detach().clone() for k, v in net.state_dict().items()}

    @torch.no_grad()
    def update(self, net, step):
        d = min(self.decay, (1 + step) / (10 + step))
        values = list(net.state_dict().values())
        torch._foreach_lerp_(list(self.state.values()), values, 1 - d)


def validation_set(held, seed=7, n=32):
    """Fixed pairs from the held-out blocks: whole images, described ranges, linear geometry."""
    rng = np.random.default_rng(seed)
    x = [im for organ in data.ORGANS for im in held[organ][:: max(1, len(held[organ]) // (n // 5))][: n // 5 + 1]][:n]
    x = torch.from_numpy(np.stack(x).astype(np.float32) / 255)[:, None]
    rows = (torch.arange(256) / 255.0).expand(len(x), 256)
    return x, degrade(x, rows, rng, mild=0, usual=1.0)


@torch.no_grad()
def validate(net, pairs, device):
    x, y = pairs
    out = torch.cat([net(t.to(device)).cpu() for t in y.split(4)]).clamp(0, 1)
    return [float(f(a, x).mean()) for a in (y, out) for f in (psnr, ssim)]


def main():
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    p.add_argument("--data", required=True)
    p.add_argument("--work", required=True)
    p.add_argument("--size", default="sonolume-s", choices=model.SIZES)
    p.add_argument("--steps", type=int, default=24000)
    p.add_argument("--minutes", type=float, default=1e9, help="shorten the schedule to this much wall time")
    p.add_argument("--batch", type=int, default=4)
    p.add_argument("--crop", type=int, default=192)
    p.add_argument("--lr", type=float, default=6e-4)
    p.add_argument("--seed", type=int, default=1)
    p.add_argument("--threads", type=int, default=os.cpu_count())
    p.add_argument("--device", default="auto")
    p.add_argument("--init", help="weights to start from: a checkpoint or an exported .safetensors")
    p.add_argument("--log-square", type=float, default=0.0,
                   help="weight of the logarithm of each image's mean square error, which is PSNR itself; for the later part")
    p.add_argument("--whole", type=float, default=0.25, help="share of batches of whole images, the others are crops")
    p.add_argument("--mild", type=float, default=0.12, help="share of images that are hardly degraded")
    p.add_argument("--usual", type=float, default=0.75, help="share inside the described ranges; the rest is wider")
    p.add_argument("--quiet", type=float, default=0.0, help="share that has only speckle in proportion to the signal")
    p.add_argument("--fan", type=float, default=0.15, help="share of batches degraded in fan geometry")
    p.add_argument("--extra", type=float, default=0.15, help="share of images from the other sets")
    p.add_argument("--context", action="store_true", help="with the wide depthwise block; weights without it may be started from")
    p.add_argument("--data-seed", type=int, help="of images and degradations, by default --seed: runs from the same start to be averaged")
    p.add_argument("--without", choices=("row", "attention"), help="leave out a part of the network, to measure what it is worth")
    p.add_argument("--resume", action="store_true")
    a = p.parse_args()

    work = Path(a.work)
    work.mkdir(parents=True, exist_ok=True)
    log = open(work / "supervised.log", "a" if a.resume else "w", buffering=1)
    torch.set_num_threads(a.threads)
    torch.manual_seed(a.seed)
    rng = np.random.default_rng(a.seed if a.data_seed is None else a.data_seed)
    device = device_of(a.device)
    cuda = device.type == "cuda"

    crops = data.Crops(data.load_usenhance(a.data, "high", "train"), data.load_hq(a.data, "train"), rng)
    held = validation_set(data.load_usenhance(a.data, "high", "held"))
    net = model.build(a.size, context=a.context, without=a.without)
    if a.init:
        state = export.load(a.init)[0].state_dict()
        fresh = {k: v for k, v in net.state_dict().items() if k.startswith("context.")}
        net.load_state_dict({**fresh, **state})
    net = net.to(device, memory_format=torch.channels_last)
    optimizer = torch.optim.AdamW(net.parameters(), a.lr, betas=(0.9, 0.99), weight_decay=1e-4)
    ema = Ema(net, 0.999)
    step, spent = 0, 0.0
    if a.resume and (work / "supervised.pt").exists():
        s = torch.load(work / "supervised.pt", map_location=device, weights_only=False)
        net.load_state_dict(s["net"])
        optimizer.load_state_dict(s["optimizer"])
        ema.state, step, spent = s["ema"], s["step"], s["spent"]
        rng.bit_generator.state = s["rng"]
    run = torch.compile(net) if cuda else net

    def make():
        whole = rng.random() < a.whole
        n, size = (max(1, a.batch * a.crop**2 // 256**2), 256) if whole else (a.batch, a.crop)
        x, rows, *_ = crops.batch(n, size, extra=a.extra)
        fan = rng.random() < a.fan
        return x, degrade(x, rows, rng, fan=fan, mild=a.mild, usual=a.usual, quiet=a.quiet), rows

    state = rng.bit_generator.state
    ahead = Ahead(make, rng)
    start = time.time() - spent
    last_save = last_check = time.time()
    total, norms, count = 0.0, 0.0, 0
    while True:
        spent = time.time() - start
        progress = max(step / a.steps, spent / 60 / a.minutes)
        done = progress >= 1
        now = time.time()
        if done or now - last_save > 120:
            last_save = now
            save(dict(net=net.state_dict(), optimizer=optimizer.state_dict(), ema=ema.state, step=step, spent=spent,
                      rng=state, size=a.size), work / "supervised.pt")
            save(dict(net=ema.state, step=step, size=a.size, stage="supervised"), work / "supervised-ema.pt")
        if done or now - last_check > 300 or step in (500, 1000, 1500, 2000):
            last_check = now
            probe = model.build(a.size, context=a.context, without=a.without).to(device, memory_format=torch.channels_last)
            probe.load_state_dict(ema.state)
            i, s0, o, s1 = validate(probe, held, device)
            print(f"{time.strftime('%H:%M:%S')} held step {step} psnr {i:.2f} -> {o:.2f} ssim {s0:.3f} -> {s1:.3f}", file=log)
        if done:
            break
        for g in optimizer.param_groups:
            g["lr"] = a.lr * min(1, (step + 1) / 300) * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * min(1, progress))))
        (x, y, rows), state = ahead.next()
        x, y, rows = x.to(device), y.to(device), rows.to(device)
        with torch.autocast(device.type, dtype=torch.bfloat16):
            out = run(y, rows)
        out = out.float()
        loss = torch.sqrt((out - x) ** 2 + 1e-4).mean() + 0.1 * (1 - ssim(out, x).mean())
        if a.log_square:  # bounded, so that hardly degraded images do not rule
            loss = loss + a.log_square * torch.log(((out - x) ** 2).mean((1, 2, 3)) + 1e-3).mean()
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        if torch.isfinite(norm):
            optimizer.step()
        ema.update(net, step)
        step += 1
        total, norms, count = total + float(loss.detach()), norms + float(norm), count + 1
        if step % 100 == 0:
            print(f"{time.strftime('%H:%M:%S')} step {step} loss {total / count:.4f} s/step {(time.time() - start - spent):.3f}"
                  f" norm {norms / count:.2f} lr {optimizer.param_groups[0]['lr']:.2e}", file=log)
            total, norms, count = 0.0, 0.0, 0


if __name__ == "__main__":
    main()
