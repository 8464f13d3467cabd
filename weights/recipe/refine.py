"""Stage three: mends single faults of a trained generator and keeps everything else it does.

    python refine.py --data DATA --work WORK --init WORK/unpaired-ema.pt [--steps N] [--minutes M] [--resume]

The signal gate becomes the wide one (`model.SignalGate`). What the generator answers is the target, changed only where measurements say
that it is wrong. So nothing has to be judged anew: no discriminators, no balance between terms, and what is right stays.

  handheld images   lateral detail of the second octave (periods of about 4 to 8 pixels) stronger, axial and finer detail weaker, as
                    measured on images that were not trained on (0.85 to 0.92 and up to 1.15 times the cart images'); in dim areas
                    of the carotid detail as strong as there (`LUMEN`), where it was up to 1.8 times as strong; deep in the
                    carotid and the breast an even fade from signal to noise (`FADE`); deep in the kidney a little brighter
  degraded cart images    the brightness of wide areas that the cart image has; that is where most of the squared error was
  cart images, simulated phantoms   as before; but cysts of the phantoms are as dark as the input has them, and what is dark in a phantom's
                    sharp picture (behind a reflector, in the noise) is no brighter; that is a small part of a picture, so it
                    counts more (`DARK`)
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
# Deep in an organ, by the input's mean of a wide area (grey levels): factors of brightness and of detail. There the handheld image fades into
# quantised noise. Of the carotid the input's signal (mean of 9x9 pixels above 4 levels) had become 1.4 times as bright as the cart images are at
# the same places, what lies below it far darker, and between them were black islands and bright dots; in the breast dim corners became
# holes with ragged edges.
FADE = {
    "carotid": {0: (5, 0.35), 0.4: (5, 0.35), 0.75: (4.3, 0.35), 1.25: (3.2, 0.35), 1.75: (2.5, 0.4), 2.5: (1.8, 0.45), 3.5: (1.35, 0.62),
                5: (1.08, 0.85), 7: (0.93, 1), 10: (0.83, 1.08), 14: (0.77, 1.12), 20: (0.74, 1.15), 32: (0.75, 1.15), 60: (0.8, 1.1),
                100: (0.95, 1)},
    "breast": {0: (1.5, 0.6), 0.4: (1.5, 0.6), 0.75: (1.3, 0.7), 1.25: (1, 0.8), 1.75: (0.85, 0.9), 2.5: (0.8, 1), 5: (0.8, 1), 7: (0.84, 1),
               10: (0.9, 1), 14: (0.96, 1), 20: (1, 1)},
}
# From these depths on, and weight of these areas beside 1 for all else.
FADE_DEPTH, FADE_WEIGHT = (0.55, 0.75), 3.0
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


def wide_mean(t, reach: int = 11):
    """Mean of 2 reach - 1 pixels a side, those in the middle counting more."""
    return local_mean(local_mean(t, reach), reach)


def curve(keys: dict, column: int, levels):
    """The tabulated factors at grey levels [n, 1, h, w]."""
    values = [v[column] for v in keys.values()]
    return torch.from_numpy(np.interp(levels.cpu().numpy(), list(keys), values).astype(np.float32)).to(levels)


def faded(t, x, deep, keys: dict):
    """Brightness and detail of the target [n, 1, h, w] by the input's brightness x, where `deep` is 1. Where next to nothing is left of
    the input, the mean is that of a wider area, so that no islands stand out."""
    levels = 255 * wide_mean(x)
    mean = local_mean(t, 15)
    base = torch.lerp(mean, wide_mean(t), (2 - levels / 2).clamp(0, 1))
    return t + deep * (curve(keys, 0, levels) * (base + curve(keys, 1, levels) * (t - mean)) - t)


def mended(t, x, rows, organ: str, a: argparse.Namespace):
    """(target, its weight) made of an output t [n, 1, h, w] for a handheld image x with the row coordinates [n, h]; `a` has the shares of
    detail that are added."""
    out = t + a.lateral * second_octave(t, 3) + a.axial * second_octave(t, 2)
    out = out + a.fine_lateral * (t - binomial(t, 3)) + a.fine_axial * (t - binomial(t, 2))
    weight = torch.ones_like(t)
    depth = lambda start, end: ((rows - start) / (end - start)).clamp(0, 1)[:, None, :, None]
    if organ == "carotid":
        levels = 255 * local_mean(t, 15)
        for i, dim in enumerate((3, 2)):
            out = out + (curve(LUMEN, i, levels) - 1) * (t - binomial(t, dim))
        out = out + (NEAR - 1) * depth(0.3, 0.2) * local_mean(t, 15)
    if organ == "kidney":
        out = out * (1 + (KIDNEY - 1) * depth(0.6, 0.8))
    if organ in FADE:
        deep = depth(*FADE_DEPTH)
        out, weight = faded(out, x, deep, FADE[organ]), weight + FADE_WEIGHT * deep
    return out.clamp(0, 1), weight


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
    p.add_argument("--lateral", type=float, default=0.5, help="what is added of the second octave's lateral detail")
    p.add_argument("--axial", type=float, default=-0.05, help="and of its axial detail")
    p.add_argument("--fine-lateral", type=float, default=-0.18, help="what is added of all lateral detail finer than that")
    p.add_argument("--fine-axial", type=float, default=-0.1, help="and of such axial detail")
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
    fresh = lambda: model.build(meta["size"], gate="wide", context=teacher.context is not None)

    def widened(source):
        """The same weights behind the wide gate."""
        net = fresh()
        gate = {k: v for k, v in net.state_dict().items() if k.startswith("signal.")}
        net.load_state_dict(source.state_dict() | gate)
        return net

    net = widened(export.load(a.start or a.init)[0])
    teachers = [t.eval().to(device, memory_format=torch.channels_last).requires_grad_(False) for t in (teacher, widened(teacher))]
    saved = None
    if a.resume and (work / "refined.pt").exists():
        saved = torch.load(work / "refined.pt", map_location="cpu", weights_only=False)
    step, spent = (saved["step"], saved["spent"]) if saved else (0, 0.0)

    def make(rng, index):
        """Two handheld images of one organ and one of the carotid; a cart image, two degraded ones and what they were, two phantoms with
        their bounds, a flat image."""
        organ = data.ORGANS[index % len(data.ORGANS)]
        carts, hands = data.Crops(high, extra, rng), data.Crops(low, [], rng)
        size, zoom = (256, 1.0) if rng.random() < 0.75 else (192, float(np.exp(rng.uniform(np.log(0.8), np.log(1.5)))))
        lows = [hands.zoomed(size, name, zoom) for name in (organ, organ, "carotid")]
        if rng.random() < 0.3:  # other contrasts of the handheld scanner than those seen
            lows = [(v[0] ** np.float32(np.exp(rng.uniform(-0.1, 0.1))), *v[1:]) for v in lows]
        good, rows, *_ = carts.batch(3, size)
        worse = degrade(good[1:], rows[1:], rng, fan=rng.random() < 0.15, quiet=0.3, strong=0.2)
        made = zip(phantom(rng, size), phantom(rng, size))
        simulated, bound, mask = (torch.from_numpy(np.stack([np.asarray(v, np.float32) for v in part]))[:, None] for part in made)
        whole = np.linspace(0, 1, size, dtype=np.float32)
        x = torch.cat([torch.from_numpy(np.stack([v[0] for v in lows]))[:, None], good[:1], worse,
                       simulated, torch.from_numpy(flat(rng, size))[None, None]])
        rows = torch.cat([torch.from_numpy(np.stack([v[1] for v in lows])), rows, torch.from_numpy(whole).expand(3, -1)])
        return organ, x, rows, good[1:], bound, mask

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
        organ, x, rows, sharp, bound, mask = (v if isinstance(v, str) else v.to(device, non_blocking=True) for v in item)
        with torch.no_grad():
            # Where there is no sector and no marks, the wide gate itself makes the better target: its edges are soft.
            parts = [(slice(0, 2), organ in FADE), (slice(2, 3), True), (slice(3, 8), False)]
            target = torch.cat([teachers[wide](x[part], rows[part]) for part, wide in parts]).clamp(0, 1)
            mend = lambda part, organ: mended(target[part], x[part], rows[part], organ, a)
            (pair, pair_weight), (carotid, carotid_weight) = mend(slice(0, 2), organ), mend(slice(2, 3), "carotid")
            even = target[4:6] + wide_mean(sharp - target[4:6], 21)
            bounded = target[6:] - mask * F.relu(target[6:] - bound)
            target = torch.cat([pair, carotid, target[3:4], even.clamp(0, 1), bounded, x[8:]])
            weight = torch.cat([pair_weight, carotid_weight, torch.ones_like(x[3:6]), 1 + DARK * mask, torch.ones_like(x[8:])])
        out = net(x, rows)
        # what is beyond black and white is cut off later, so it does not count
        out = torch.where(target >= 1, out.clamp(max=1), torch.where(target <= 0, out.clamp(min=0), out))
        error = (weight * (torch.sqrt((out - target) ** 2 + (0.5 / 255) ** 2) - 0.5 / 255)).mean((1, 2, 3))
        coarse = (F.avg_pool2d(weight, 16) * (F.avg_pool2d(out, 16) - F.avg_pool2d(target, 16)).abs()).mean((1, 2, 3))
        each = error + coarse
        loss = 255 * each.mean()
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        norm = nn.utils.clip_grad_norm_(net.parameters(), 10.0)
        step_if_finite(optimizer, norm)
        ema.update(net, step + 1000)
        step += 1
        levels = 255 * each.detach()
        parts = dict(handheld=levels[:2].mean(), carotid=levels[2], cart=levels[3], degraded=levels[4:6].mean(), phantom=levels[6:8].mean(), flat=levels[8], norm=norm)
        for k, v in parts.items():
            totals.setdefault(k, []).append(v)
        item = ahead.next()
        if step % 50 == 0:
            text = " ".join(f"{k} {np.mean([float(v) for v in values]):.3f}" for k, values in totals.items())
            print(f"{time.strftime('%H:%M:%S')} step {step} s/step {(clock.spent - spent) / 50:.3f} {text}", file=log)
            totals, spent = {}, clock.spent


if __name__ == "__main__":
    main()
