"""The degradation once more, written from its description alone; shares no code with `degrade.py` on purpose.

What the description leaves open is an argument: how strong the speckle is beside the echo it multiplies, whether lines are
thinned before or after it, whether what lies outside the scan stays black, and how often there is haze or a shadow.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

RANGE = 60.0  # dB of the cart image


@dataclass(frozen=True)
class Reading:
    """One way to read the description."""

    speckle: float = 0.5  # deviation of the sum of phasors, relative to the root of the echo
    thin_last: bool = True  # lines are dropped after the speckle
    masked: bool = True  # black outside the scan
    extras: float = 0.0  # share of images with haze, and with a shadow

    def __str__(self):
        thinned = "after" if self.thin_last else "before"
        return f"speckle {self.speckle:g}, lines thinned {thinned} it" + ("" if self.masked else ", noise everywhere") + (
            f", haze {self.extras:g}, shadow {self.extras:g}" if self.extras else "")


READINGS = (
    Reading(1.0), Reading(1.0, thin_last=False), Reading(0.5), Reading(0.5, thin_last=False), Reading(0.3), Reading(0.5, masked=False),
    Reading(0.5, extras=0.25),
)


def thinned(echo, keep: int):
    """Every `keep`-th column, and what is linear between them."""
    columns = np.arange(0, echo.shape[1], keep)
    return np.stack([np.interp(np.arange(echo.shape[1]), columns, row[columns]) for row in echo])


def speckled(echo, amplitude: float, rng):
    """Squared magnitude of the root of the echo and a sum of 5 to 15 complex Gaussians in proportion to it."""
    count = int(rng.integers(5, 16))
    total = np.zeros(echo.shape, complex)
    for _ in range(count):
        total += (rng.standard_normal(echo.shape) + 1j * rng.standard_normal(echo.shape)) / np.sqrt(2 * count)
    root = np.sqrt(np.maximum(echo, 0))
    return np.abs(root + amplitude * root * total) ** 2


def handheld(cart, rng, reading: Reading):
    """8-bit levels in [0, 1] of what a handheld scanner might have shown of a cart image [h, w] in [0, 1]."""
    h, w = cart.shape
    echo = np.where(cart > 0, 10 ** (RANGE * (cart.astype(float) - 1) / 20), 0)
    echo = ndimage.gaussian_filter(echo, (rng.uniform(0, 0.5), rng.uniform(0.8, 2.5)), mode="nearest")
    keep = int(rng.integers(1, 4))
    if reading.thin_last:
        echo = thinned(speckled(echo, reading.speckle, rng), keep)
    else:
        echo = speckled(thinned(echo, keep), reading.speckle, rng)
    yy, xx = np.mgrid[:h, :w]
    if rng.random() < reading.extras:  # haze: a radial band
        radius = np.hypot(yy + 30, xx - w / 2)
        band = np.exp(-0.5 * ((radius - rng.uniform(60, 220)) / rng.uniform(10, 40)) ** 2)
        echo = echo + 10 ** (rng.uniform(-38, -28) / 20) * band
    if rng.random() < reading.extras:
        across = np.exp(-0.5 * ((xx - rng.uniform(0, w)) / rng.uniform(8, 25)) ** 2)
        echo = echo * (1 - rng.uniform(0.4, 0.9) * across * (yy > rng.uniform(20, 120)))
    echo = echo * 10 ** (-rng.uniform(0, 12) * np.linspace(0, 1, h)[:, None] / 20)
    floor = 10 ** (rng.uniform(-55, -42) / 20) / np.sqrt(2)
    noise = floor * np.abs(rng.standard_normal((h, w)) + 1j * rng.standard_normal((h, w)))
    shown = 1 + 20 * np.log10(np.maximum(np.hypot(echo, noise), 1e-6)) / rng.uniform(45, 60)
    shown = np.clip(shown, 0, 1) ** rng.uniform(1.0, 1.6)
    if reading.masked:
        shown = np.where(ndimage.gaussian_filter((cart > 0).astype(float), 3) > 0.02, shown, 0)
    return (np.round(shown * 255) / 255).astype(np.float32)
