"""Simulated phantoms: fully developed speckle with anechoic cysts, bright inclusions and point targets.

The echo field is complex white noise times the square root of an echogenicity map, convolved with a Gaussian point
spread function; its magnitude is log-compressed. No measured image is involved.
"""

from __future__ import annotations

import numpy as np
from scipy import ndimage


def echo_map(rng, size: int, cysts: int, inclusions: int, points: int):
    """(echogenicity map, list of cysts (y, x, r), list of points (y, x))."""
    yy, xx = np.mgrid[:size, :size]
    base = np.ones((size, size))
    if rng.random() < 0.5:  # slow variation, at most about 6 dB
        base *= 10 ** (0.3 * ndimage.zoom(rng.uniform(-1, 1, (4, 4)), size / 4, order=3, mode="nearest", grid_mode=True))
    holes, dots = [], []
    for k in range(cysts + inclusions):
        r = rng.uniform(0.03, 0.12) * size
        y, x = rng.uniform(r + 4, size - r - 4, 2)
        if any((y - b) ** 2 + (x - c) ** 2 < (r + d + 6) ** 2 for b, c, d in holes):
            continue
        inside = (yy - y) ** 2 + (xx - x) ** 2 < r * r
        if k < cysts:
            base[inside] = 0
            holes.append((y, x, r))
        else:
            base[inside] *= 10 ** (rng.choice([-0.6, 0.6, 1.0]))
    for _ in range(points):
        dots.append(tuple(rng.integers(12, size - 12, 2)))
    return base, holes, dots


def image(rng, echo, dots, lateral: float, axial: float, gain_db: float = -22.0, dynamic_range: float = 60.0, field=None,
          floor_db: float = -75.0):
    """B-mode image in [0, 1]; `field` is the complex white noise, shared to image the same tissue with two probes."""
    if field is None:
        field = rng.standard_normal(echo.shape) + 1j * rng.standard_normal(echo.shape)
    f = field * np.sqrt(echo)
    for y, x in dots:
        f[y, x] += 60.0
    blur = lambda a: ndimage.gaussian_filter(a, (axial, lateral), mode="reflect")
    norm = np.sqrt(4 * np.pi * axial * lateral) / np.sqrt(2)  # unit mean power for a unit echo map
    a = (blur(f.real) + 1j * blur(f.imag)) * norm * 10 ** (gain_db / 20)
    noise = 10 ** (floor_db / 20) / np.sqrt(2)
    a = np.abs(a + noise * (rng.standard_normal(a.shape) + 1j * rng.standard_normal(a.shape)))
    return np.clip(1 + 20 * np.log10(np.maximum(a, 1e-6)) / dynamic_range, 0, 1).astype(np.float32)


def sector_pair(rng, size: int):
    """(sharp, wide, rows): a curvilinear scan of vessels, cysts and bright interfaces, some with a shadow. The waves are
    simulated along the beams and converted to the image; outside the sector both are black. What is anechoic in `sharp` is
    so in `wide`, however much the tissue around it is attenuated there."""
    yy, xx = np.mgrid[:size, :size] / size
    half = rng.uniform(0.45, 0.75)  # opening, radians each side
    top = rng.uniform(0.08, 0.25)  # from the apex to the face of the probe
    centre = rng.uniform(0.42, 0.58)
    deep = rng.uniform(0.85, 1.05)
    # few lines make noise that is as wide as speckle
    density = rng.uniform(0.5, 1.5)
    lines, samples = int(density * size), int(1.3 * size)
    angle = np.linspace(-half, half, lines)[None]
    radius = (top + np.linspace(0, 1, samples) * deep)[:, None]
    x, y = centre + radius * np.sin(angle), radius * np.cos(angle) - top * np.cos(half)
    echo = 10 ** (0.3 * ndimage.zoom(rng.uniform(-1, 1, (5, 5)), (samples / 5, lines / 5), order=3, mode="nearest", grid_mode=True))
    for _ in range(rng.integers(1, 3)):  # interfaces along the arcs
        at, thick, mid, wide = rng.uniform(0.15, 0.9) * deep + top, rng.uniform(0.004, 0.02), rng.uniform(-0.6, 0.6) * half, rng.uniform(0.1, 1.2)
        bow = at + rng.uniform(-0.15, 0.15) * (angle - mid) ** 2 / half**2 + 0.01 * np.sin(angle * rng.uniform(3, 20))
        on = np.exp(-0.5 * ((radius - bow) / thick) ** 2) * np.exp(-0.5 * ((angle - mid) / (wide * half)) ** 4)
        echo = echo * (1 + rng.uniform(5, 60) * on)
        if rng.random() < 0.5:  # what lies behind is in its shadow
            echo = echo * 10 ** (-rng.uniform(0.7, 3) / (1 + np.exp(-(radius - bow) / 0.015)) * np.exp(-0.5 * ((angle - mid) / (wide * half)) ** 4))
    if rng.random() < 0.45:  # a deep interface across the whole sector, with little behind it
        bow = rng.uniform(0.55, 0.95) * deep + top + rng.uniform(-0.1, 0.1) * angle**2 / half**2
        echo = echo * (1 + rng.uniform(5, 60) * np.exp(-0.5 * ((radius - bow) / rng.uniform(0.004, 0.012)) ** 2))
        echo = echo * 10 ** (-rng.uniform(1.5, 4) / (1 + np.exp(-(radius - bow) / 0.01)))
    for _ in range(rng.integers(2, 9)):  # cysts and vessels
        r = np.exp(rng.uniform(np.log(0.01), np.log(0.1)))
        long = rng.uniform(1, 8) if rng.random() < 0.5 else 1
        turn, b, c = rng.uniform(0, np.pi), rng.uniform(0.1, 0.95), rng.uniform(0.15, 0.85)
        u, v = (x - c) * np.cos(turn) + (y - b) * np.sin(turn), (y - b) * np.cos(turn) - (x - c) * np.sin(turn)
        echo = echo * ((u / (r * long)) ** 2 + (v / r) ** 2 > 1)
    if rng.random() < 0.4:
        echo = echo * 10 ** (-rng.uniform(2, 10) * np.clip((radius - top) / deep - rng.uniform(0.4, 0.8), 0, None))
    field = rng.standard_normal(echo.shape) + 1j * rng.standard_normal(echo.shape)
    lateral, axial, gain = max(0.8, rng.uniform(1.1, 2.7) * density), rng.uniform(0.9, 1.8), rng.uniform(-28, -12)
    sharp = image(rng, echo, [], lateral, axial, gain, 60, field)
    weaker = echo * 10 ** (-rng.uniform(0, 1.6) * (radius - top) / deep)
    wide = image(rng, weaker, [], lateral * rng.uniform(1.0, 1.6), axial, gain - rng.uniform(0, 6), rng.uniform(50, 60), field,
                 floor_db=rng.uniform(-75, -44))
    # scan conversion
    dx, dy = xx - centre, yy + top * np.cos(half)
    r, t = np.hypot(dx, dy), np.arctan2(dx, dy)
    at = [(r - top) / deep * (samples - 1), (t + half) / (2 * half) * (lines - 1)]
    seen = (r >= top) & (r <= top + deep) & (abs(t) <= half)
    sharp, wide = (np.where(seen, ndimage.map_coordinates(v, at, order=1, mode="nearest"), 0).astype(np.float32) for v in (sharp, wide))
    return sharp, wide ** rng.uniform(1.0, 1.3), np.linspace(0, 1, size, dtype=np.float32)


def probes(rng, echo, dots, widest: float):
    """(sharp, wide): the same tissue and points through a narrow point spread function and through one up to `widest` times as wide."""
    field = rng.standard_normal(echo.shape) + 1j * rng.standard_normal(echo.shape)
    lateral, axial, gain = rng.uniform(1.2, 3.0), rng.uniform(0.8, 1.5), rng.uniform(-30, -12)
    sharp = image(rng, echo, dots, lateral, axial, gain, 60, field)
    drop = rng.uniform(0, 6)
    wide = image(rng, echo, dots, lateral * rng.uniform(1.0, widest), axial, gain - drop, rng.uniform(52, 60), field,
                 floor_db=rng.uniform(-75, -52))
    return sharp, wide


def random_pair(rng, size: int):
    """(sharp, wide): the same tissue through a narrow and a laterally wider point spread function; at times a uniform
    field, at times one that fades with depth into the noise."""
    if rng.random() < 0.35:
        echo, dots = np.ones((size, size)), []
    else:
        echo, _, dots = echo_map(rng, size, rng.integers(0, 5), rng.integers(0, 4), rng.integers(0, 4) if rng.random() < 0.5 else 0)
    if rng.random() < 0.2:
        depth = np.clip(np.arange(size) / size - rng.uniform(0.1, 0.6), 0, None)
        echo = echo * 10 ** (-rng.uniform(4, 16) * depth)[:, None]
    return probes(rng, echo, dots, 1.5)


def points_pair(rng, size: int):
    """(sharp, wide, points): bright points on an even grid with jitter, most in tissue that is dimmed around them, for both
    probes at the same places [(y, x)]."""
    echo, _, _ = echo_map(rng, size, rng.integers(0, 3), rng.integers(0, 2), 0)
    step = size // 4
    dots = []
    dim = 10 ** -rng.uniform(0.5, 3)
    for y in range(step // 2, size, step):
        for x in range(step // 2, size, step):
            if rng.random() < 0.6:
                y1, x1 = (int(v + rng.integers(-step // 4, step // 4 + 1)) for v in (y, x))
                if rng.random() < 0.8:
                    echo[max(0, y1 - 14) : y1 + 15, max(0, x1 - 14) : x1 + 15] *= dim
                dots.append((y1, x1))
    return *probes(rng, echo, dots, 1.4), dots
