"""Stage three: mends single faults of a trained generator and keeps everything else it does.

    python refine.py --data DATA --work WORK --init WORK/unpaired-ema.pt [--steps N] [--minutes M] [--resume]

What the generator answers is the target, changed only where measurements say that it is wrong. So nothing has to be judged anew: no
discriminators, no balance between terms, and what is right stays.

  handheld images   lateral detail of the second octave (periods of about 4 to 8 pixels) stronger and axial detail weaker, as its
                    deviation on images that were not trained on is 0.85 to 0.92 and up to 1.15 times the cart images'; in dim
                    areas of the carotid detail as strong as there (`LUMEN`), where it was up to 1.8 times as strong; deep in the
                    carotid less difference between what is bright and what is dim (`DEEP`); deep in the kidney a little brighter
  cart images, degraded cart images, simulated phantoms   as before; but cysts of the phantoms are as dark as the input has them, and what
                    is dark in a phantom's sharp picture (behind a reflector, in the noise) is no brighter; that is a small part of a
                    picture, so it counts more (`DARK`)
  flat images       as they are: a dim grey without speckle was taken for what lies outside the scan, and turned black near the probe

Writes WORK/refined.pt (to resume), WORK/refined-ema.pt (weights) and WORK/refined.log.
"""

from __future__ import annotations

import argparse
import math
import os
import time

import numpy as np
import torch
import torch.nn.functional as F
from scipy import ndimage
from torch import nn

import data
import export
import model
import phantoms
from degrade import degrade
from train_supervised import Ahead, Clock, Ema, begin, resume_optimizer, save, step_if_finite, validate
from train_unpaired import Held, local_mean

# Factors of the carotid's detail by brightness (mean of 15x15 pixels, grey levels): across, along the depth.
LUMEN = {0: (1.0, 1.0), 7: (1.0, 1.0), 15: (1.0, 0.7), 25: (0.8, 0.6), 45: (0.8, 0.75), 90: (1.0, 1.0), 255: (1.0, 1.0)}
# Its near field is too dark on images that were not trained on: a factor of the brightness down to a fifth of the depth, 1 from 0.3 on.
NEAR = 1.08
# Its deepest third by brightness (mean of 15x15 pixels, grey levels): where the input has signal (mean of 9x9 pixels above 4 levels) the mean
# was 1.4 times that of the same places in cart images, elsewhere far below it, and in between were black islands.
DEEP = {0: 0, 3.5: 7, 11: 22, 26: 37, 43: 46, 59: 54, 80: 63, 112: 80, 255: 185}
# Brightness of the kidney's deepest quarter, which is too dark on images that were not trained on.
KIDNEY = 1.08
# Weight of what must stay dark in a phantom, beside 1 for all else.
DARK = 12.0


def binomial(t, dim, step=1):
    """Blur by [1 4 6 4 1] / 16 along one dimension of [n, 1, h, w], taps `step` pixels apart, the border replicated."""
    k = torch.tensor([1.0, 4, 6, 4, 1], device=t.device) / 16
    if dim == 3:
        return F.conv2d(F.pad(t, (2 * step,) * 2 + (0, 0), mode="replicate"), k[None, None, None], dilation=(1, step))
    return F.conv2d(F.pad(t, (0, 0) + (2 * step,) * 2, mode="replicate"), k[None, None, :, None], dilation=(step, 1))


def second_octave(t, dim):
    """What a blur takes away and a finer one does not."""
    fine = binomial(t, dim)
    return fine - binomial(fine, dim, 2)


def mended(t, rows, organ: str, lateral: float, axial: float):
    """The target made of an output [n, 1, h, w] for a handheld image with the row coordinates [n, h]."""
    out = t + lateral * second_octave(t, 3) + axial * second_octave(t, 2)
    depth = lambda start, end: ((rows - start) / (end - start)).clamp(0, 1)[:, None, :, None]
    if organ == "carotid":
        mean = 255 * local_mean(t, 15)
        levels = mean.cpu().numpy()
        curve = lambda keys, values: torch.from_numpy(np.interp(levels, keys, values).astype(np.float32)).to(t)
        for i, dim in enumerate((3, 2)):
            out = out + (curve(list(LUMEN), [v[i] for v in LUMEN.values()]) - 1) * (t - binomial(t, dim))
        out = out + (NEAR - 1) * depth(0.3, 0.2) * local_mean(t, 15)
        gain = torch.where(mean > 0.5, curve(list(DEEP), list(DEEP.values())) / mean.clamp_min(0.5), 1)
        out = out * (1 + (gain - 1) * depth(0.65, 0.8))
    if organ == "kidney":
        out = out * (1 + (KIDNEY - 1) * depth(0.6, 0.8))
    return out.clamp(0, 1)


def flat(rng, size: int) -> np.ndarray:
    """An image without speckle: one grey, steps across or along, or a slope; at times partly black."""
    grey = lambda: float(np.exp(rng.uniform(np.log(2), np.log(230)))) / 255 if rng.random() < 0.7 else rng.uniform(0, 1)
    kind = rng.random()
    image = np.full((size, size), grey())
    if kind < 0.2:
        for _ in range(rng.integers(1, 4)):
            image[int(rng.integers(size)) :] = grey()
    elif kind < 0.3:
        for _ in range(rng.integers(1, 4)):
            image[:, int(rng.integers(size)) :] = grey()
    elif kind < 0.45:
        image = np.broadcast_to(np.linspace(grey(), grey(), size)[:, None], (size, size)).copy()
    if rng.random() < 0.15:
        image[int(rng.uniform(0.3, 0.9) * size) :] = 0
    return image.astype(np.float32)


def phantom(rng, size: int):
    """(image, what its output must not exceed, where that holds): cysts are as dark as in the image, what is dark in the sharp picture of
    the same tissue as dark as there."""
    if rng.random() < 0.5:
        sharp, image = (phantoms.random_pair if rng.random() < 0.3 else lambda *a: phantoms.sector_pair(*a)[:2])(rng, size)
        return image, sharp, np.clip(2 - ndimage.uniform_filter(sharp, 9) * 255 / 6, 0, 1)
    echo, holes, dots = phantoms.echo_map(rng, size, int(rng.integers(0, 6)), int(rng.integers(0, 3)), int(rng.integers(0, 5)))
    image = phantoms.image(rng, echo, dots, rng.uniform(1.4, 3.2), rng.uniform(0.8, 1.5), rng.uniform(-34, -14), rng.uniform(52, 60),
                           floor_db=rng.uniform(-75, -52))
    yy, xx = np.mgrid[:size, :size]
    mask = np.zeros((size, size), np.float32)
    for y, x, r in holes:
        mask = np.maximum(mask, np.clip((r - 2 - np.hypot(yy - y, xx - x)) / 3, 0, 1))
    return image, image, mask


def main():
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    p.add_argument("--data", required=True)
    p.add_argument("--work", required=True)
    p.add_argument("--init", required=True, help="weights to mend: a checkpoint or an exported .safetensors")
    p.add_argument("--start", help="weights to start from: an earlier refinement of the same; by default those to mend")
    p.add_argument("--steps", type=int, default=2000)
    p.add_argument("--minutes", type=float, default=1e9, help="shorten the schedule to this much wall time")
    p.add_argument("--lr", type=float, default=1e-4)
    p.add_argument("--lateral", type=float, default=0.15, help="what is added of the lateral detail")
    p.add_argument("--axial", type=float, default=-0.05, help="what is added of the axial detail")
    p.add_argument("--seed", type=int, default=3)
    p.add_argument("--threads", type=int, default=os.cpu_count())
    p.add_argument("--workers", type=int, default=0, help="processes that make the batches; by default a thread of this one does")
    p.add_argument("--device", default="auto")
    p.add_argument("--resume", action="store_true")
    a = p.parse_args()

    work, log, device, cuda = begin(a, "refined")

    high, low = data.load_usenhance(a.data, "high", "train"), data.load_usenhance(a.data, "low", "train")
    extra = data.load_hq(a.data, "train")
    held = Held(a.data)

    teacher, meta = export.load(a.init)
    teacher = teacher.to(device, memory_format=torch.channels_last).requires_grad_(False)
    fresh = lambda: model.build(meta["size"], gated=teacher.signal is not None, context=teacher.context is not None)
    net = fresh()
    net.load_state_dict(export.load(a.start or a.init)[0].state_dict())
    saved = None
    if a.resume and (work / "refined.pt").exists():
        saved = torch.load(work / "refined.pt", map_location="cpu", weights_only=False)
    step, spent = (saved["step"], saved["spent"]) if saved else (0, 0.0)

    def make(rng, index):
        """Two handheld images of one organ and one of the carotid; a cart image, a degraded one, two phantoms with their
        bounds, a flat image."""
        organ = data.ORGANS[index % len(data.ORGANS)]
        carts, hands = data.Crops(high, extra, rng), data.Crops(low, [], rng)
        size, zoom = (256, 1.0) if rng.random() < 0.75 else (192, float(np.exp(rng.uniform(np.log(0.8), np.log(1.5)))))
        lows = [hands.zoomed(size, name, zoom) for name in (organ, organ, "carotid")]
        if rng.random() < 0.3:  # other contrasts of the handheld scanner than those seen
            lows = [(v[0] ** np.float32(np.exp(rng.uniform(-0.1, 0.1))), *v[1:]) for v in lows]
        good, rows, *_ = carts.batch(2, size)
        good[1:] = degrade(good[1:], rows[1:], rng, fan=rng.random() < 0.15)
        made = zip(phantom(rng, size), phantom(rng, size))
        simulated, bound, mask = (torch.from_numpy(np.stack([np.asarray(v, np.float32) for v in part]))[:, None] for part in made)
        whole = np.linspace(0, 1, size, dtype=np.float32)
        x = torch.cat([torch.from_numpy(np.stack([v[0] for v in lows]))[:, None], good,
                       simulated, torch.from_numpy(flat(rng, size))[None, None]])
        rows = torch.cat([torch.from_numpy(np.stack([v[1] for v in lows])), rows, torch.from_numpy(whole).expand(3, -1)])
        return organ, x, rows, bound, mask

    ahead = Ahead(make, a.seed, step, a.workers, pin=cuda)
    net = net.train().to(device, memory_format=torch.channels_last)
    optimizer = torch.optim.Adam([v for v in net.parameters() if v.requires_grad], a.lr, betas=(0.9, 0.99), fused=cuda or None)
    ema = Ema(net, 0.995)
    if saved:
        net.load_state_dict(saved["net"])
        resume_optimizer(optimizer, saved["optimizer"], cuda)
        ema.state = {k: v.to(device) for k, v in saved["ema"].items()}
    item = ahead.next()
    clock = Clock(spent)
    last_save = last_check = time.time()
    totals: dict[str, list[torch.Tensor]] = {}
    while True:
        progress = max(step / a.steps, clock.spent / 60 / a.minutes)
        done = progress >= 1
        now = time.time()
        if done or now - last_save > 60:
            last_save = now
            save(dict(net=net.state_dict(), optimizer=optimizer.state_dict(), ema=ema.state, step=step, spent=clock.spent, size=meta["size"]),
                 work / "refined.pt")
            save(dict(net=ema.state, step=step, size=meta["size"], stage="refined"), work / "refined-ema.pt")
        if done or now - last_check > 300:
            last_check = now
            probe = fresh().to(device, memory_format=torch.channels_last)
            probe.load_state_dict(ema.state)
            i, s0, o, s1 = validate(probe, held.pairs, device)
            ratio = " ".join(f"{v:.3f}" for v in held.real(probe, device)[1])
            print(f"{time.strftime('%H:%M:%S')} held step {step} psnr {i:.2f} -> {o:.2f} ssim {s0:.3f} -> {s1:.3f} swd ratio {ratio}", file=log)
            save(dict(net=ema.state, step=step, size=meta["size"], stage="refined"), work / f"refined-ema-{step}.pt")
        if done:
            break
        for g in optimizer.param_groups:
            g["lr"] = a.lr * min(1, (step + 1) / 100) * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * progress)))
        organ, x, rows, bound, mask = (v if isinstance(v, str) else v.to(device, non_blocking=True) for v in item)
        with torch.no_grad():
            target = teacher(x[:7], rows[:7]).clamp(0, 1)
            mend = lambda part, organ: mended(target[part], rows[part], organ, a.lateral, a.axial)
            bounded = target[5:] - mask * F.relu(target[5:] - bound)
            target = torch.cat([mend(slice(0, 2), organ), mend(slice(2, 3), "carotid"), target[3:5], bounded, x[7:]])
            weight = torch.cat([torch.ones_like(x[:5]), 1 + DARK * mask, torch.ones_like(x[7:])])
        out = net(x, rows)
        # what is beyond black and white is cut off later, so it does not count
        out = torch.where(target >= 1, out.clamp(max=1), torch.where(target <= 0, out.clamp(min=0), out))
        error = (weight * (torch.sqrt((out - target) ** 2 + (0.5 / 255) ** 2) - 0.5 / 255)).mean((1, 2, 3))
        coarse = (F.avg_pool2d(out, 16) - F.avg_pool2d(target, 16)).abs().mean((1, 2, 3))
        each = error + coarse
        loss = 255 * each.mean()
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        norm = nn.utils.clip_grad_norm_(net.parameters(), 10.0)
        step_if_finite(optimizer, norm)
        ema.update(net, step + 1000)
        step += 1
        levels = 255 * each.detach()
        parts = dict(handheld=levels[:2].mean(), carotid=levels[2], cart=levels[3], degraded=levels[4], phantom=levels[5:7].mean(), flat=levels[7], norm=norm)
        for k, v in parts.items():
            totals.setdefault(k, []).append(v)
        item = ahead.next()
        if step % 50 == 0:
            text = " ".join(f"{k} {np.mean([float(v) for v in values]):.3f}" for k, values in totals.items())
            print(f"{time.strftime('%H:%M:%S')} step {step} s/step {(clock.spent - spent) / 50:.3f} {text}", file=log)
            totals, spent = {}, clock.spent


if __name__ == "__main__":
    main()
