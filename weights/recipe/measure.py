"""What the model card says beyond the table of `evaluate.py`, on the same held-out blocks.

    python measure.py --data DATA --model NAME=FILE [--model ...] [--pictures DIRECTORY] [SECTION ...]

  distances    sliced Wasserstein ratios over eight draws of patches and projections: the first, the mean, the largest
  brightness   of the depth quarters of every organ, as ratio to the cart images: all pixels; where the input has signal (mean of 9x9 pixels
               above 4 levels), at the same places of the cart images; each side where it has signal itself
  gain         PSNR and SSIM gained on the degradation of `independent.py`, by reading
  detail       columns: how much a pixel differs from the mean of its left and right neighbours in the dim areas of the carotid;
               dots: detail beside the mean by the input's brightness, deep in the carotid
  phantoms     points, cysts, evenness, spectrum, black over five seeds; spectra by brightness
  dark         levels of what is dark in a sector's sharp picture; change of flat greys
  cysts        what is black in the high-quality pictures of DIRECTORY: `N.hi.png` beside `N.lo.png`
               (`sonolume phantom -o N.hi.png --low-output N.lo.png`)
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch
from scipy import ndimage

import data
import independent
import phantoms
from evaluate import network, phantom, spectral_peaks, stack
from losses import psnr, ssim, swd

SIGNAL = 4  # levels of a mean of 9x9 pixels
SEEDS = (11, 1, 2, 3, 4)


def local_mean(images, size):
    """In grey levels."""
    return np.stack([ndimage.uniform_filter(i, size) for i in images]) * 255


def row(values, digits=2):
    return " ".join(f"{v:.{digits}f}" for v in values)


class Sets:
    def __init__(self, root):
        load = lambda side: {o: np.stack(v).astype(np.float32) / 255 for o, v in data.load_usenhance(root, side, "held").items()}
        self.low, self.high = load("low"), load("high")
        self.base = [self.distance(self.low, k) for k in range(8)]

    def distance(self, images, seed):
        every = lambda d: stack(np.concatenate(list(d.values())))
        return np.array(swd(every(images), every(self.high), seed=seed))


def distances(run, outputs, sets):
    r = np.array([sets.distance(outputs, k) / b for k, b in enumerate(sets.base)])
    print("distances: first", row(r[0], 3), "mean", row(r.mean(0), 3), "largest", row(r.max(0), 3))


def brightness(run, outputs, sets):
    parts = lambda v: np.array_split(v, 4, 1)
    inside = lambda v, where: np.array([(q * m).sum() / max(m.sum(), 1) for q, m in zip(parts(v), parts(where))])
    for organ, y in outputs.items():
        x, h = sets.low[organ], sets.high[organ]
        seen, out, cart = (local_mean(v, 9) > SIGNAL for v in (x, y, h))
        every = np.ones_like(seen)
        print(f"brightness {organ}: all {row(inside(y, every) / inside(h, every))}; where the input has signal"
              f" {row(inside(y, seen) / inside(h, seen))}; each where it has {row(inside(y, out) / inside(h, cart))}")


def gain(run, outputs, sets):
    carts = np.concatenate([v[::3] for v in sets.high.values()])
    for reading in independent.READINGS:
        rng = np.random.default_rng(5)
        worse = np.stack([independent.handheld(i, rng, reading) for i in carts])
        better = np.stack([run(i) for i in worse])
        a, b, x = stack(worse), stack(better), stack(carts)
        p, q, s, t = (float(f(v, x).mean()) for f in (psnr, ssim) for v in (a, b))
        print(f"gain, {reading}: {q - p:+.2f} dB {t - s:+.3f} from {p:.2f} dB {s:.3f}", flush=True)


def detail(run, outputs, sets):
    def columns(v):
        dim = local_mean(v, 15)[:, :, 1:-1]
        d = 255 * (v[:, :, 1:-1] - (v[:, :, :-2] + v[:, :, 2:]) / 2)
        return float(np.sqrt((d[(dim >= 4) & (dim <= 30)] ** 2).mean()))

    x, y, h = (s["carotid"] for s in (sets.low, outputs, sets.high))
    print(f"columns: input {columns(x):.2f} output {columns(y):.2f} cart {columns(h):.2f}")
    blur = lambda v, s: np.stack([ndimage.gaussian_filter(i, s) for i in v])[:, 192:]
    levels, fine, mean = 255 * blur(x, 6), y[:, 192:] - blur(y, 3), blur(y, 6)
    cart_fine, cart_mean = h[:, 192:] - blur(h, 3), blur(h, 6)
    for a, b in ((0.25, 0.5), (0.5, 1), (1, 2), (2, 4), (4, 8), (8, 16), (16, 32)):
        k = (levels >= a) & (levels < b)
        m = mean[k].mean()
        alike = (cart_mean > 0.8 * m) & (cart_mean < 1.25 * m)
        print(f"dots, input {a:g} to {b:g}: {255 * m:.1f} levels, detail {fine[k].std() / m:.2f} of it;"
              f" in cart images as bright {cart_fine[alike].std() / m if alike.sum() > 100 else float('nan'):.2f}")


def phantoms_(run, outputs, sets):
    for seed in SEEDS:
        f = phantom(run, seed)
        print(f"phantoms {seed}:", " ".join(f"{k} {f[k]:.3f}" for k in ("gcnr_in", "gcnr", "point", "uneven_in", "uneven", "peak", "black")), flush=True)
    for gain_db in (-38, -32, -26, -20, -14):
        rng = np.random.default_rng(5)
        fields = [phantoms.image(rng, np.ones((256, 256)), [], rng.uniform(1.5, 3), rng.uniform(0.9, 1.4), gain_db, 58) for _ in range(12)]
        print(f"spectrum at {gain_db} dB: {spectral_peaks([run(f) for f in fields]):.2f}, input {spectral_peaks(fields):.2f}", flush=True)


def dark(run, outputs, sets):
    rng, levels = np.random.default_rng(12), []
    for _ in range(12):
        sharp, wide, _ = phantoms.sector_pair(rng, 256)
        scan = ndimage.binary_erosion(ndimage.binary_fill_holes(sharp > 0), iterations=5)
        there = (ndimage.uniform_filter(sharp, 9) * 255 < 6) & scan
        if there.sum() >= 50:
            wide = wide.astype(np.float32)
            levels.append((255 * wide[there].mean(), 255 * run(wide)[there].mean()))
    levels = np.array(levels)
    print(f"dark: input {row(levels.mean(0)[:1], 1)} output {row(levels.mean(0)[1:], 1)} levels, in one scene at most {row(levels.max(0), 1)}")
    change = [255 * np.abs(run(np.full((256, 256), g / 255, np.float32)) - g / 255) for g in range(10, 231, 20)]
    print(f"flat greys change by {max(float(c.max()) for c in change):.2f} levels at most")


def cysts(run, outputs, sets, pictures):
    found = []
    for path in sorted(Path(pictures).glob("*.hi.png")):
        hi, lo = (data.read_grey(p).astype(np.float32) / 255 for p in (path, path.with_name(path.name.replace(".hi.", ".lo."))))
        out = run(lo)
        scan = ndimage.binary_erosion(ndimage.binary_fill_holes(hi * 255 > 8), iterations=4)
        holes = ndimage.binary_erosion((ndimage.uniform_filter(hi, 9) * 255 < 4) & scan, iterations=2)
        regions, count = ndimage.label(holes)
        for i in range(1, count + 1):
            where = regions == i
            if where.sum() > 60:
                found.append([255 * float(v[where].mean()) for v in (lo, out)])
    found = np.array(found)
    if not len(found):
        raise SystemExit(f"no cysts: {pictures} has no N.hi.png beside N.lo.png with black in it")
    print(f"cysts: {len(found)}, input {found[:, 0].mean():.1f} output {found[:, 1].mean():.1f} levels, at most {found[:, 1].max():.1f}")


SECTIONS = dict(distances=distances, brightness=brightness, gain=gain, detail=detail, phantoms=phantoms_, dark=dark)


def main():
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    p.add_argument("--data", required=True)
    p.add_argument("--model", action="append", required=True, metavar="NAME=FILE")
    p.add_argument("--pictures", help="of `sonolume phantom`, for the section `cysts`")
    p.add_argument("--threads", type=int, default=1)
    p.add_argument("sections", nargs="*", metavar="SECTION", help=f"{', '.join(SECTIONS)}, cysts; by default all")
    a = p.parse_args()
    if unknown := set(a.sections) - {*SECTIONS, "cysts"}:
        p.error(f"no section {', '.join(sorted(unknown))}")
    if "cysts" in a.sections and not a.pictures:
        p.error("cysts: needs --pictures")
    torch.set_num_threads(a.threads)
    sets = Sets(a.data)
    for name, path in (m.split("=", 1) for m in a.model):
        print(f"--- {name}", flush=True)
        run = network(path)
        outputs = {o: np.stack([run(i) for i in v]) for o, v in sets.low.items()}
        for section, measure in SECTIONS.items():
            if not a.sections or section in a.sections:
                measure(run, outputs, sets)
        if a.pictures and (not a.sections or "cysts" in a.sections):
            cysts(run, outputs, sets, a.pictures)


if __name__ == "__main__":
    main()
