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
    """Makes items (whole batches) in order, a few ahead, in a background thread or in worker processes. Item i is make(generator, i)
    with a generator of its own, so neither who makes it nor where a run was cut off changes it. The processes are forked: make
    this before the device is used."""

    def __init__(self, make, seed: int, first: int, workers: int = 0, pin: bool = False, depth: int = 3):
        self.item = lambda i: make(np.random.default_rng([seed, i]), i)
        if workers:
            loader = torch.utils.data.DataLoader(
                self, batch_size=None, sampler=range(first, 1 << 40), num_workers=workers, prefetch_factor=2, pin_memory=pin,
                collate_fn=lambda item: item, worker_init_fn=lambda _: torch.set_num_threads(1), multiprocessing_context="fork",
                generator=torch.Generator())  # its own, so that the weights' generator stays where it is
            self.next = iter(loader).__next__
            return
        ready = queue.Queue(depth)

        def work():
            for i in range(first, 1 << 40):
                ready.put(self.item(i))

        threading.Thread(target=work, daemon=True).start()
        self.next = ready.get

    def __getitem__(self, i: int):
        return self.item(i)


class Clock:
    """Seconds that the process ran. A thread ticks; what passes between two ticks counts only if it is short, so that the schedule
    of a run that was stopped for a while (SIGSTOP) waits with it."""

    def __init__(self, spent: float):
        self.spent = spent

        def tick():
            last = time.monotonic()
            while True:
                time.sleep(0.05)
                now = time.monotonic()
                if now - last < 5:
                    self.spent += now - last
                last = now

        threading.Thread(target=tick, daemon=True).start()


def set_up(device: torch.device) -> bool:
    """Whether that is a CUDA device; sets what its convolutions need. What is not bfloat16 there needs all of f32: variances as
    differences of means are lost in TF32."""
    if device.type == "cuda":
        torch.backends.cudnn.allow_tf32 = False
    return device.type == "cuda"


def begin(a, name: str):
    """(work folder, its log, the device, whether that is a CUDA device) of a run with the options `a`."""
    work = Path(a.work)
    work.mkdir(parents=True, exist_ok=True)
    log = open(work / f"{name}.log", "a" if a.resume else "w", buffering=1)
    torch.set_num_threads(a.threads)
    torch.manual_seed(a.seed)
    device = device_of(a.device)
    return work, log, device, set_up(device)


def step_if_finite(optimizer, norm):
    """A step unless the gradients' norm says no. A fused optimizer on a GPU finds out there, so that nothing waits for it."""
    if norm.is_cuda:
        optimizer.found_inf = (~torch.isfinite(norm)).float()
        optimizer.step()
    elif torch.isfinite(norm):
        optimizer.step()


def resume_optimizer(optimizer, state: dict, cuda: bool):
    for g in state["param_groups"]:  # the checkpoint may come from another device
        g["fused"] = cuda or None
    optimizer.load_state_dict(state)


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
    x, y = x.to(device), y.to(device)
    out = torch.cat([net(t) for t in y.split(4)]).clamp(0, 1)
    return [float(f(a, x).mean()) for a in (y, out) for f in (psnr, ssim)]


def main():
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    p.add_argument("--data", required=True)
    p.add_argument("--work", required=True)
    p.add_argument("--size", default="sonolume-s", choices=model.SIZES)
    p.add_argument("--steps", type=int, default=24000)
    p.add_argument("--minutes", type=float, default=1e9, help="shorten the schedule to this much wall time")
    p.add_argument("--until", type=float, default=1e9, help="stop once so many of the schedule's minutes are spent; --resume goes on")
    p.add_argument("--batch", type=int, default=4)
    p.add_argument("--crop", type=int, default=192)
    p.add_argument("--lr", type=float, default=6e-4)
    p.add_argument("--warm-up", type=int, default=300, metavar="N", help="steps over which the learning rate rises to --lr")
    p.add_argument("--seed", type=int, default=1)
    p.add_argument("--threads", type=int, default=os.cpu_count())
    p.add_argument("--workers", type=int, default=0, help="processes that make the batches; by default a thread of this one does")
    p.add_argument("--device", default="auto")
    p.add_argument("--compile", action="store_true", help="torch.compile the network, which takes a minute to begin with")
    p.add_argument("--init", help="weights to start from: a checkpoint or an exported .safetensors")
    p.add_argument("--log-square", type=float, default=0.0,
                   help="weight of the logarithm of each image's mean square error, which is PSNR itself; for the later part")
    p.add_argument("--whole", type=float, default=0.25, help="share of batches of whole images, the others are crops")
    p.add_argument("--mild", type=float, default=0.12, help="share of images that are hardly degraded")
    p.add_argument("--usual", type=float, default=0.75, help="share inside the described ranges; the rest is wider")
    p.add_argument("--quiet", type=float, default=0.0, help="share that has only speckle in proportion to the signal")
    p.add_argument("--strong", type=float, default=0.0, help="share whose speckle may be as strong as the signal")
    p.add_argument("--fan", type=float, default=0.15, help="share of batches degraded in fan geometry")
    p.add_argument("--extra", type=float, default=0.15, help="share of images from the other sets")
    p.add_argument("--context", action="store_true", help="with the wide depthwise block; weights without it may be started from")
    p.add_argument("--data-seed", type=int, help="of images and degradations, by default --seed: runs from the same start to be averaged")
    p.add_argument("--without", choices=("row", "attention"), help="leave out a part of the network, to measure what it is worth")
    p.add_argument("--resume", action="store_true")
    a = p.parse_args()

    work, log, device, cuda = begin(a, "supervised")
    torch.backends.cudnn.benchmark = cuda

    images, extra = data.load_usenhance(a.data, "high", "train"), data.load_hq(a.data, "train")
    held = validation_set(data.load_usenhance(a.data, "high", "held"))
    net = model.build(a.size, context=a.context, without=a.without)
    if a.init:
        state = export.load(a.init)[0].state_dict()
        fresh = {k: v for k, v in net.state_dict().items() if k.startswith("context.")}
        net.load_state_dict({**fresh, **state})
    saved = None
    if a.resume and (work / "supervised.pt").exists():
        saved = torch.load(work / "supervised.pt", map_location="cpu", weights_only=False)
    step, spent = (saved["step"], saved["spent"]) if saved else (0, 0.0)

    def make(rng, _):
        crops = data.Crops(images, extra, rng)
        whole = rng.random() < a.whole
        n, size = (max(1, a.batch * a.crop**2 // 256**2), 256) if whole else (a.batch, a.crop)
        x, rows, *_ = crops.batch(n, size, extra=a.extra)
        fan = rng.random() < a.fan
        return x, degrade(x, rows, rng, fan=fan, mild=a.mild, usual=a.usual, quiet=a.quiet, strong=a.strong), rows

    ahead = Ahead(make, a.seed if a.data_seed is None else a.data_seed, step, a.workers, pin=cuda)
    net = net.to(device, memory_format=torch.channels_last)
    optimizer = torch.optim.AdamW(net.parameters(), a.lr, betas=(0.9, 0.99), weight_decay=1e-4, fused=cuda or None)
    ema = Ema(net, 0.999)
    if saved:
        net.load_state_dict(saved["net"])
        resume_optimizer(optimizer, saved["optimizer"], cuda)
        ema.state = {k: v.to(device) for k, v in saved["ema"].items()}
    run = torch.compile(net) if a.compile else net

    item = ahead.next()
    clock = Clock(spent)
    last_save = last_check = time.time()
    total, norms, waited, count = 0.0, 0.0, 0.0, 0
    while True:
        progress = max(step / a.steps, clock.spent / 60 / a.minutes)
        done = progress >= 1 or clock.spent / 60 >= a.until
        now = time.time()
        if done or now - last_save > 60:
            last_save = now
            save(dict(net=net.state_dict(), optimizer=optimizer.state_dict(), ema=ema.state, step=step,
                      spent=clock.spent, size=a.size), work / "supervised.pt")
            save(dict(net=ema.state, step=step, size=a.size, stage="supervised"), work / "supervised-ema.pt")
        if done or now - last_check > 300 or step in (500, 1000, 1500, 2000) or (a.init and step == 0):
            last_check = now
            probe = model.build(a.size, context=a.context, without=a.without).to(device, memory_format=torch.channels_last)
            probe.load_state_dict(ema.state)
            i, s0, o, s1 = validate(probe, held, device)
            print(f"{time.strftime('%H:%M:%S')} held step {step} psnr {i:.2f} -> {o:.2f} ssim {s0:.3f} -> {s1:.3f}", file=log)
        if done:
            break
        for g in optimizer.param_groups:
            g["lr"] = a.lr * min(1, (step + 1) / max(1, a.warm_up)) * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * min(1, progress))))
        x, y, rows = (v.to(device, non_blocking=True) for v in item)
        with torch.autocast(device.type, dtype=torch.bfloat16):
            out = run(y, rows)
        out = out.float()
        loss = torch.sqrt((out - x) ** 2 + 1e-4).mean() + 0.1 * (1 - ssim(out, x).mean())
        if a.log_square:  # bounded, so that hardly degraded images do not rule
            loss = loss + a.log_square * torch.log(((out - x) ** 2).mean((1, 2, 3)) + 1e-3).mean()
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        step_if_finite(optimizer, norm)
        ema.update(net, step)
        step += 1
        # the sums stay on the device: reading them makes the next step wait for this one
        total, norms, count = total + loss.detach(), norms + norm.detach(), count + 1
        before = time.monotonic()
        item = ahead.next()
        waited += time.monotonic() - before
        if step % 100 == 0:
            total, norms = float(total), float(norms)
            print(f"{time.strftime('%H:%M:%S')} step {step} loss {total / count:.4f} s/step {(clock.spent - spent) / count:.3f}"
                  f" of it waiting {waited / count:.3f} norm {norms / count:.2f} lr {optimizer.param_groups[0]['lr']:.2e}", file=log)
            total, norms, waited, count, spent = 0.0, 0.0, 0.0, 0, clock.spent


if __name__ == "__main__":
    main()
