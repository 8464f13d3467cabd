"""From a cart image to what a handheld scanner might have shown of it: a random, differently severe degradation.

x in [0, 1] is taken out of log compression, a = 10^(DR (x - 1) / 20) with DR = 60 dB; then blurred (mostly laterally),
thinned in scan lines, speckled, attenuated with depth, covered by a noise floor, sometimes hazed or shadowed, and
compressed again with another dynamic range and gamma. In fan geometry the same happens in polar coordinates, so the blur
follows the arcs.
"""

from __future__ import annotations

import math

import numpy as np
import torch
import torch.nn.functional as F

DR = 60.0


def _u(rng, n, lo, hi):
    return torch.from_numpy(rng.uniform(lo, hi, n).astype(np.float32))


def _log_u(rng, n, lo, hi):
    return torch.exp(_u(rng, n, math.log(lo), math.log(hi)))


def parameters(n: int, rng: np.random.Generator, mild: float = 0.12, usual: float = 0.75) -> dict[str, torch.Tensor]:
    """Random parameters of n images. A share `mild` is hardly degraded, a share `usual` stays inside the described
    ranges and the rest is wider (other devices, other zooms)."""
    kind = rng.random(n)
    soft = torch.from_numpy(kind < mild)
    wide = torch.from_numpy(kind > mild + usual)

    def pick(a, b, c):
        return torch.where(soft, a, torch.where(wide, c, b))

    def choice(values, p):
        return torch.from_numpy(rng.choice(np.array(values, np.float32), n, p=p))

    zero = torch.zeros(n)
    phasors = torch.from_numpy(rng.integers(5, 16, n).astype(np.float32))
    p = dict(
        lateral=pick(_u(rng, n, 0, 0.35), _u(rng, n, 0.8, 2.5), _u(rng, n, 0.3, 4.0)),
        axial=pick(zero, _u(rng, n, 0, 0.5), _u(rng, n, 0, 0.8)),
        lines=pick(zero + 1, choice([1, 2, 3], [1 / 3] * 3), choice([1, 2, 3, 4], [0.4, 0.3, 0.2, 0.1])),
        phase=_u(rng, n, 0, 1),
        # one phasor's deviation; the sum of N is one Gaussian of sqrt(N) times that
        additive=phasors.sqrt() * pick(zero + 1e-4, _log_u(rng, n, 0.001, 0.02), _log_u(rng, n, 0.001, 0.03)),
        relative=phasors.sqrt() * pick(_u(rng, n, 0, 0.005), _u(rng, n, 0, 0.09), _u(rng, n, 0, 0.13)),
        early=choice([0, 1], [0.5, 0.5]),  # speckle before the lines are thinned
        attenuation=pick(_u(rng, n, 0, 1), _u(rng, n, 0, 12), _u(rng, n, -2, 16)),
        floor=pick(zero - 70, _u(rng, n, -55, -42), _u(rng, n, -65, -40)),
        masked=choice([0, 1], [0.5, 0.5]),  # no noise outside the scanned sector
        range=pick(zero + DR, _u(rng, n, 45, 60), _u(rng, n, 42, 64)),
        gamma=pick(_u(rng, n, 0.97, 1.03), _u(rng, n, 1.0, 1.6), _u(rng, n, 0.9, 1.8)),
        haze=torch.where(soft, zero, choice([0, 1], [0.88, 0.12])) * 10 ** (_u(rng, n, -48, -30) / 20),
        haze_depth=_u(rng, n, 0.0, 0.5),
        haze_width=_u(rng, n, 0.05, 0.25),
        shadow=torch.where(soft, zero, choice([0, 1], [0.88, 0.12])) * _u(rng, n, 0.3, 0.9),
        shadow_x=_u(rng, n, 0, 1),
        shadow_width=_u(rng, n, 0.03, 0.15),
        shadow_depth=_u(rng, n, 0.1, 0.7),
    )
    return p


def _blur(a, sigma, dim):
    """Gaussian blur of [n, 1, h, w] along one dimension, one sigma an image."""
    n = a.shape[0]
    k = max(1, math.ceil(3 * float(sigma.max())))
    t = torch.arange(-k, k + 1, dtype=torch.float32)
    g = torch.exp(-0.5 * (t[None] / sigma.clamp_min(0.05)[:, None]) ** 2)
    g = g / g.sum(1, keepdim=True)
    a = a.transpose(0, 1)
    if dim == 3:
        a = F.conv2d(F.pad(a, (k, k, 0, 0), mode="replicate"), g[:, None, None, :], groups=n)
    else:
        a = F.conv2d(F.pad(a, (0, 0, k, k), mode="replicate"), g[:, None, :, None], groups=n)
    return a.transpose(0, 1)


def _thin(a, lines, phase):
    """Keep every `lines`-th column and interpolate between them."""
    n, _, h, w = a.shape
    k = lines[:, None]
    o = (phase * lines).floor()[:, None]
    x = torch.arange(w, dtype=torch.float32)[None]
    q = torch.floor((x - o) / k) * k + o
    f = ((x - q) / k)[:, None, None]
    lo = q.clamp(0, w - 1).long()[:, None, None].expand(n, 1, h, w)
    hi = (q + k).clamp(0, w - 1).long()[:, None, None].expand(n, 1, h, w)
    return a.gather(3, lo) * (1 - f) + a.gather(3, hi) * f


def _complex(shape, generator):
    return torch.randn(shape, generator=generator), torch.randn(shape, generator=generator)


def _speckle(a, sigma, generator):
    re, im = _complex(a.shape, generator)
    root = a.clamp_min(0).sqrt()
    return (root + sigma * re) ** 2 + (sigma * im) ** 2


def _apply(x, rows, p, generator, depth=None, wide_x=None):
    v = {k: t[:, None, None, None] for k, t in p.items()}
    n, _, h, w = x.shape
    depth = rows[:, None, :, None] if depth is None else depth
    wide_x = torch.linspace(0, 1, w)[None, None, None] if wide_x is None else wide_x
    a = 10 ** (DR * (x - 1) / 20)
    scanned = F.max_pool2d(x, 9, 1, 4) > 0.012
    a = _blur(_blur(a, p["lateral"], 3), p["axial"], 2)

    def speckle(a):
        return _speckle(a, v["additive"] + v["relative"] * a.sqrt(), generator)

    a = torch.where(v["early"] > 0, speckle(a), a)
    a = _thin(a, p["lines"], p["phase"])
    a = torch.where(v["early"] > 0, a, speckle(a))
    if (p["haze"] > 0).any():
        band = torch.exp(-0.5 * ((depth - v["haze_depth"]) / v["haze_width"]) ** 2)
        a = a + v["haze"] * band * (0.7 + 0.3 * torch.rand(a.shape, generator=generator))
    if (p["shadow"] > 0).any():
        lateral = torch.exp(-0.5 * ((wide_x - v["shadow_x"]) / v["shadow_width"]) ** 2)
        a = a * (1 - v["shadow"] * lateral * torch.sigmoid((depth - v["shadow_depth"]) * 25))
    a = a * 10 ** (-v["attenuation"] * depth / 20)
    re, im = _complex(a.shape, generator)
    s = 10 ** (v["floor"] / 20) * 0.7071
    noisy = ((a + s * re) ** 2 + (s * im) ** 2).sqrt()
    y = (1 + 20 * torch.log10(noisy.clamp_min(1e-6)) / v["range"]).clamp(0, 1) ** v["gamma"]
    return torch.where((v["masked"] > 0) & ~scanned, torch.zeros(()), y)


def _fan(x, rng):
    """Polar sampling grids of n images: Cartesian -> polar and back, plus the polar depth."""
    n, _, h, w = x.shape
    cx = _u(rng, n, 0.3, 0.7) * w
    d = _u(rng, n, 0.12, 0.6) * h
    ys = torch.arange(h, dtype=torch.float32)[None, :, None]
    xs = torch.arange(w, dtype=torch.float32)[None, None, :]
    dx, dy = xs - cx[:, None, None], ys + d[:, None, None]
    r, t = torch.sqrt(dx**2 + dy**2), torch.atan2(dx, dy)
    r0, r1 = d, r.amax((1, 2))
    t0, t1 = t.amin((1, 2)), t.amax((1, 2))
    ph, pw = int(1.4 * h), int(1.6 * w)
    g = lambda v, lo, hi: 2 * (v - lo[:, None, None]) / (hi - lo)[:, None, None] - 1
    back = torch.stack([g(t, t0, t1), g(r, r0, r1)], -1)
    rr = r0[:, None, None] + (r1 - r0)[:, None, None] * torch.linspace(0, 1, ph)[None, :, None]
    tt = t0[:, None, None] + (t1 - t0)[:, None, None] * torch.linspace(0, 1, pw)[None, None, :]
    px = cx[:, None, None] + rr * torch.sin(tt)
    py = rr * torch.cos(tt) - d[:, None, None]
    forth = torch.stack([2 * px / (w - 1) - 1, 2 * py / (h - 1) - 1], -1)
    # pixels per polar sample, laterally at mid depth
    return forth, back, pw / ((t1 - t0) * (r0 + 0.5 * h)), ph / (r1 - r0)


def degrade(x, rows, rng: np.random.Generator, fan: bool = False, p=None, mild: float = 0.12, usual: float = 0.75,
            quiet: float = 0.0, strong: float = 0.0):
    """x [n, 1, h, w] in [0, 1] -> degraded, same shape; rows [n, h] are the depth coordinates. A share `quiet` has only speckle in
    proportion to the signal; in a share `strong` that is up to as strong as the signal (fully developed speckle)."""
    generator = torch.Generator().manual_seed(int(rng.integers(2**62)))
    p = parameters(x.shape[0], rng, mild, usual) if p is None else p
    if quiet:
        p["additive"] = torch.where(torch.from_numpy(rng.random(x.shape[0]) < quiet), 1e-4, p["additive"])
    if strong:
        chosen = torch.from_numpy(rng.random(x.shape[0]) < strong)
        p["relative"] = torch.where(chosen, _u(rng, x.shape[0], 0.2, 0.75), p["relative"])
    if not fan:
        return _apply(x, rows, p, generator)
    forth, back, lateral, axial = _fan(x, rng)
    polar = F.grid_sample(x, forth, mode="bilinear", padding_mode="border", align_corners=True)
    lo, hi = rows[:, :1], rows[:, -1:]
    depth = (lo + (hi - lo) * (forth[:, :, forth.shape[2] // 2, 1] * 0.5 + 0.5)).clamp(0, 1)[:, None, :, None]
    p = dict(p, lateral=p["lateral"] * lateral, axial=p["axial"] * axial, lines=(p["lines"] * lateral).round().clamp_min(1))
    y = _apply(polar, rows, p, generator, depth=depth)
    y = F.grid_sample(y, back, mode="bilinear", padding_mode="border", align_corners=True)
    # hardly degraded images do not pass through the grid: resampling would blur them
    soft = (p["floor"] <= -66)[:, None, None, None]
    return torch.where(soft, x, torch.where(x.amax((2, 3), keepdim=True) > 0, y, x))
