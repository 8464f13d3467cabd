"""One table for all methods, with the same code, on the held-out blocks only.

    python evaluate.py --data DATA --model NAME=FILE [--model ...] [--mimicknet FILE] [--json OUT] [--half first|second]

FILE is a checkpoint or an exported .safetensors. Columns:
  synthetic pairs  PSNR, SSIM, MS-SSIM, LNCC; PSNR and SSIM inside the scanned area
  real images      sliced Wasserstein distance to the cart images, four levels, as ratio to the untouched input's;
                   lateral and axial speckle size, foreground median and brightness of the four depth quarters as ratios
                   to the cart images of the same organ (mean over organs; quarters also per organ in the JSON)
  phantoms         gCNR of anechoic cysts before and after, position error of points, unevenness of uniform speckle,
                   peak of the averaged power spectrum at periods 2, 4, 8, lift of black, change of a good image
"""

from __future__ import annotations

import argparse
import json
import os

import numpy as np
import torch
import torch.nn.functional as F
from scipy import ndimage

import baselines
import data
import export
import phantoms
from losses import gaussian, filter2, lncc, psnr, ssim_map, swd
from train_supervised import validation_set


def stack(images) -> torch.Tensor:
    return torch.from_numpy(np.stack([np.asarray(i, np.float32) for i in images]))[:, None]


def network(path):
    net, _ = export.load(path)

    @torch.no_grad()
    def run(x):
        return net(torch.from_numpy(np.ascontiguousarray(x, np.float32))[None, None])[0, 0].clamp(0, 1).numpy()

    return run


# --- synthetic pairs ---------------------------------------------------------------------------------------------


def ms_ssim(a, b):
    """Five scales, standard weights; contrast-structure terms clamped at 0."""
    weights = [0.0448, 0.2856, 0.3001, 0.2363, 0.1333]
    out = 1.0
    for i, w in enumerate(weights):
        t = filter2(torch.cat([a, b, a * a, b * b, a * b], 1), gaussian(1.5, 5))
        ma, mb, aa, bb, ab = t.split(1, 1)
        c1, c2 = 0.01**2, 0.03**2
        cs = (2 * (ab - ma * mb) + c2) / (aa - ma * ma + bb - mb * mb + c2)
        if i == 4:
            cs = cs * (2 * ma * mb + c1) / (ma * ma + mb * mb + c1)
        out = out * cs.mean((1, 2, 3)).clamp_min(0) ** w
        a, b = F.avg_pool2d(a, 2), F.avg_pool2d(b, 2)
    return out


def synthetic(out, x):
    scanned = (F.max_pool2d(x, 9, 1, 4) > 0.02).float()
    inner = scanned[:, :, 5:-5, 5:-5]
    s = ssim_map(out, x)
    mse = (((out - x) ** 2) * scanned).sum((1, 2, 3)) / scanned.sum((1, 2, 3))
    return dict(
        psnr=float(psnr(out, x).mean()), ssim=float(s.mean()), ms_ssim=float(ms_ssim(out, x).mean()),
        lncc=float(lncc(out, x).mean()), psnr_in=float((-10 * torch.log10(mse)).mean()),
        ssim_in=float(((s * inner).sum((1, 2, 3)) / inner.sum((1, 2, 3))).mean()),
    )


# --- real images -------------------------------------------------------------------------------------------------


def speckle_size(image, axis: int) -> float:
    """FWHM of the autocorrelation of the foreground, median over 64x64 blocks that are mostly foreground."""
    out = []
    for y in range(0, image.shape[0] - 63, 32):
        for x in range(0, image.shape[1] - 63, 32):
            b = image[y : y + 64, x : x + 64]
            if (b > 0.06).mean() < 0.8:
                continue
            b = b - ndimage.gaussian_filter(b, 12)
            f = np.abs(np.fft.rfft(b, 128, axis=axis)) ** 2
            r = np.fft.irfft(f.mean(1 - axis))[:32]
            r = r / r[0]
            i = int(np.argmax(r < 0.5))
            if i:
                out.append(2 * (i - 1 + (r[i - 1] - 0.5) / (r[i - 1] - r[i])))
    return float(np.median(out)) if out else float("nan")


def look(images):
    flat = np.stack(images)
    return dict(
        lateral=float(np.nanmedian([speckle_size(i, 1) for i in images])),
        axial=float(np.nanmedian([speckle_size(i, 0) for i in images])),
        median=float(np.median([np.median(i[i > 0.04]) for i in images if (i > 0.04).any()])),
        quarters=[float(q.mean()) for q in np.array_split(flat, 4, 1)],
    )


def real(outs, carts, distance_input):
    result = dict(swd=[a / b for a, b in zip(swd(stack(sum(outs.values(), [])), stack(sum(carts.values(), []))), distance_input)])
    per = {}
    for organ in outs:
        a, b = look(outs[organ]), look(carts[organ])
        per[organ] = dict(lateral=a["lateral"] / b["lateral"], axial=a["axial"] / b["axial"], median=a["median"] / b["median"],
                          quarters=[p / q for p, q in zip(a["quarters"], b["quarters"])])
    for k in ("lateral", "axial", "median"):
        result[k] = float(np.mean([v[k] for v in per.values()]))
    result["quarters"] = [float(np.mean([v["quarters"][i] for v in per.values()])) for i in range(4)]
    result["organs"] = per
    return result


# --- phantoms ----------------------------------------------------------------------------------------------------


def gcnr(a, b) -> float:
    h = [np.histogram(v, 256, (0, 1))[0] / v.size for v in (a, b)]
    return 1 - float(np.minimum(*h).sum())


def centroid(image, y, x, r=6):
    b = image[y - r : y + r + 1, x - r : x + r + 1].astype(np.float64)
    b = np.clip(b - 0.6 * b.max(), 0, None)
    g = np.arange(-r, r + 1)
    return np.array([(b.sum(1) * g).sum(), (b.sum(0) * g).sum()]) / b.sum()


def spectral_peaks(outs) -> float:
    """Largest ratio of the averaged power spectrum on the lines and points of period 2, 4, 8 to its neighbourhood."""
    n = 256
    p = np.mean([np.abs(np.fft.fft2(o - ndimage.gaussian_filter(o, 6))) ** 2 for o in outs], 0)
    worst = 0.0
    steps = [0, n // 8, n // 4, 3 * n // 8, n // 2]
    for i in steps:
        for j in steps:
            if i == j == 0:
                continue
            yy = (i + np.arange(-3, 4)) % n
            xx = (j + np.arange(-3, 4)) % n
            b = p[np.ix_(yy, xx)].copy()
            if i == 0 or j == 0:  # the axes themselves are special: compare along them
                line = b[3] if i == 0 else b[:, 3]
                around = np.delete(line, 3)
            else:
                around = np.delete(b.ravel(), 24)
            worst = max(worst, float(b[3, 3] / (np.median(around) + 1e-9)))
    return worst


def phantom(run, seed: int = 11, count: int = 6):
    rng = np.random.default_rng(seed)
    out = dict(gcnr_in=[], gcnr=[], point=[], uneven_in=[], uneven=[], border=[], good=[], floor=[])
    for _ in range(count):
        echo, cysts, _ = phantoms.echo_map(rng, 256, 4, 0, 0)
        for y in (60, 190):
            for x in (40, 120, 215):
                if all((y - a) ** 2 + (x - b) ** 2 > (c + 18) ** 2 for a, b, c in cysts):
                    echo[y - 14 : y + 15, x - 14 : x + 15] *= 0.01
        dots = [(y, x) for y in (60, 190) for x in (40, 120, 215)
                if all((y - a) ** 2 + (x - b) ** 2 > (c + 18) ** 2 for a, b, c in cysts)]
        im = phantoms.image(rng, echo, dots, rng.uniform(1.8, 3.0), rng.uniform(0.9, 1.4), -20, 58, floor_db=-62)
        o = run(im)
        yy, xx = np.mgrid[:256, :256]
        for y, x, r in cysts:
            d = np.hypot(yy - y, xx - x)
            inside, ring = d < r - 4, (d > r + 4) & (d < r + 12)
            if inside.sum() > 30:
                out["gcnr_in"].append(gcnr(im[inside], im[ring]))
                out["gcnr"].append(gcnr(o[inside], o[ring]))
        for y, x in dots:
            out["point"].append(float(np.abs(centroid(o, y, x) - centroid(im, y, x)).max()))
    fields, outs = [], []
    for _ in range(20):
        f = phantoms.image(rng, np.ones((256, 256)), [], rng.uniform(1.5, 3.0), rng.uniform(0.9, 1.4), rng.uniform(-26, -16), 58)
        o = run(f)
        fields.append(f)
        outs.append(o)
        coarse = lambda t: (lambda b: float(b.std() / b.mean()))(ndimage.gaussian_filter(t, 8)[16:-16, 16:-16])
        out["uneven_in"].append(coarse(f))
        out["uneven"].append(coarse(o))
    edge = np.stack(outs)
    inner = edge[:, 24:-24, 24:-24]
    sides = [edge[:, 0, 24:-24], edge[:, -1, 24:-24], edge[:, 24:-24, 0], edge[:, 24:-24, -1]]
    near = [edge[:, 8:16, 24:-24], edge[:, -16:-8, 24:-24], edge[:, 24:-24, 8:16], edge[:, 24:-24, -16:-8]]
    result = {k: float(np.mean(v)) for k, v in out.items() if v}
    result["point"] = float(np.max(out["point"]))
    result["border_mean"] = max(abs(float(s.mean() / t.mean()) - 1) for s, t in zip(sides, near))
    result["border_std"] = max(abs(float(s.std() / t.std()) - 1) for s, t in zip(sides, near))
    result["peak"] = spectral_peaks(outs)
    result["flat_peak"] = max(float(np.std((lambda o: o - ndimage.gaussian_filter(o, 6))(run(np.full((256, 256), v, np.float32)))[40:-40, 40:-40])) * 255 for v in (0.0, 0.1, 0.3, 0.6))
    black = np.zeros((256, 256), np.float32)
    half = black.copy()
    half[:, :128] = fields[0][:, :128]
    result["black"] = 255 * float(max(run(black).max(), run(half)[:, 140:].max()))
    noise = np.clip(1 + 20 * np.log10(np.abs(rng.standard_normal((256, 256)) + 1j * rng.standard_normal((256, 256))) * 0.003 + 1e-6) / 55, 0, 1)
    result["noise_in"], result["noise"] = float(noise.mean()), float(run(noise.astype(np.float32)).mean())
    del inner
    return result


def main():
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    p.add_argument("--data", required=True)
    p.add_argument("--model", action="append", default=[], metavar="NAME=FILE")
    p.add_argument("--mimicknet", help="MimickNet weights (safetensors)")
    p.add_argument("--only-models", action="store_true", help="skip the classical methods")
    p.add_argument("--json")
    p.add_argument("--half", choices=("first", "second"), help="only this half of every held-out block: choose on one, report the other")
    p.add_argument("--seed", type=int, default=7, help="of the synthetic degradation")
    p.add_argument("--phantom-seed", type=int, default=11)
    p.add_argument("--threads", type=int, default=os.cpu_count())
    a = p.parse_args()
    torch.set_num_threads(a.threads)

    methods = {"input": lambda x: x}
    if not a.only_models:
        methods |= {"bilateral": baselines.bilateral, "NLM": baselines.nlm, "CLAHE": baselines.clahe, "SRAD": baselines.srad}
        if a.mimicknet:
            methods["MimickNet"] = baselines.MimickNet(a.mimicknet)
    for m in a.model:
        name, path = m.split("=", 1)
        methods[name] = network(path)

    high = data.load_usenhance(a.data, "high", "held")
    low = data.load_usenhance(a.data, "low", "held")
    unit = lambda d: {o: [i.astype(np.float32) / 255 for i in v] for o, v in d.items()}
    if a.half:
        part = lambda v: v[: len(v) // 2] if a.half == "first" else v[len(v) // 2 :]
        high, low = ({o: part(v) for o, v in d.items()} for d in (high, low))
    high, low = unit(high), unit(low)
    x, y = validation_set({o: [(i * 255 + 0.5).astype(np.uint8) for i in v] for o, v in high.items()}, seed=a.seed, n=40)
    base = swd(stack(sum(low.values(), [])), stack(sum(high.values(), [])))
    half = sum(high.values(), [])
    print("SWD input:", [round(v, 2) for v in base], "cart halves:", [round(v, 2) for v in swd(stack(half[::2]), stack(half[1::2]))])
    table = {}
    for name, run in methods.items():
        s = synthetic(stack([run(i[0].numpy()) for i in y]), x)
        r = real({o: [run(i) for i in v] for o, v in low.items()}, high, base)
        f = phantom(run, a.phantom_seed)
        # a good image changes little
        kept = [run(i) for v in high.values() for i in v[::4]]
        f["good"] = float(psnr(stack(kept), stack([i for v in high.values() for i in v[::4]])).mean())
        table[name] = dict(synthetic=s, real=r, phantom=f)
        q = " ".join(f"{v:.2f}" for v in r["quarters"])
        w = " ".join(f"{v:.2f}" for v in r["swd"])
        print(f"| {name} | {s['psnr']:.2f} | {s['ssim']:.3f} | {s['ms_ssim']:.3f} | {s['lncc']:.3f} | {s['psnr_in']:.2f} | {s['ssim_in']:.3f}"
              f" | {w} | {r['lateral']:.2f} | {r['axial']:.2f} | {r['median']:.2f} | {q} |", flush=True)
        print("   ", {k: round(v, 3) for k, v in f.items()}, flush=True)
        print("   ", {o: [round(t, 2) for t in v["quarters"]] for o, v in r["organs"].items()}, flush=True)
    if a.json:
        with open(a.json, "w") as file:
            json.dump(table, file, indent=1)


if __name__ == "__main__":
    main()
