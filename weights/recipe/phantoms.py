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
    field = rng.standard_normal(echo.shape) + 1j * rng.standard_normal(echo.shape)
    lateral, axial, gain = rng.uniform(1.2, 3.0), rng.uniform(0.8, 1.5), rng.uniform(-30, -12)
    sharp = image(rng, echo, dots, lateral, axial, gain, 60, field)
    drop = rng.uniform(0, 6)
    wide = image(rng, echo, dots, lateral * rng.uniform(1.0, 1.5), axial, gain - drop, rng.uniform(52, 60), field,
                 floor_db=rng.uniform(-75, -52))
    return sharp, wide
