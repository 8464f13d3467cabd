"""What people use instead: bilateral, non-local means, CLAHE, SRAD and MimickNet, with usual settings.

Every function maps one image [h, w] in [0, 1] to another.
"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from scipy import ndimage
from skimage import exposure, restoration


def bilateral(x, radius: int = 4, spatial: float = 2.0, tone: float = 0.1):
    padded = np.pad(x, radius, mode="symmetric")
    total, weight = np.zeros_like(x), np.zeros_like(x)
    h, w = x.shape
    for dy in range(2 * radius + 1):
        for dx in range(2 * radius + 1):
            v = padded[dy : dy + h, dx : dx + w]
            near = -((dy - radius) ** 2 + (dx - radius) ** 2) / (2 * spatial**2)
            k = np.exp(near - (v - x) ** 2 / (2 * tone**2))
            total += k * v
            weight += k
    return total / weight


def noise_sigma(x):
    """Immerkaer 1996: from the response to the difference of two Laplacians."""
    k = np.array([[1, -2, 1], [-2, 4, -2], [1, -2, 1]], np.float32)
    return float(np.sqrt(np.pi / 2) * np.abs(ndimage.convolve(x, k)[1:-1, 1:-1]).mean() / 6)


def nlm(x):
    sigma = max(noise_sigma(x), 0.01)
    return restoration.denoise_nl_means(x, patch_size=5, patch_distance=7, h=0.8 * sigma, sigma=sigma, fast_mode=True)


def clahe(x):
    return exposure.equalize_adapthist(x, kernel_size=32, clip_limit=0.01)


def srad(x, steps: int = 40, dt: float = 0.1):
    """Speckle reducing anisotropic diffusion (Yu and Acton 2002) on the exponential of the log-compressed image."""
    i = np.exp(x.astype(np.float64) * 3)
    for k in range(steps):
        n, s = np.roll(i, 1, 0), np.roll(i, -1, 0)
        w, e = np.roll(i, 1, 1), np.roll(i, -1, 1)
        n[0], s[-1], w[:, 0], e[:, -1] = i[0], i[-1], i[:, 0], i[:, -1]
        g2 = ((n - i) ** 2 + (s - i) ** 2 + (w - i) ** 2 + (e - i) ** 2) / i**2
        lap = (n + s + w + e - 4 * i) / i
        q2 = (0.5 * g2 - lap**2 / 16) / (1 + 0.25 * lap) ** 2
        q0 = (0.5 * np.exp(-k * dt / 6)) ** 2
        c = np.clip(1 / (1 + (q2 - q0) / (q0 * (1 + q0))), 0, 1)
        cs, ce = np.roll(c, -1, 0), np.roll(c, -1, 1)
        cs[-1], ce[:, -1] = c[-1], c[:, -1]
        i = i + dt / 4 * (c * (n - i) + cs * (s - i) + c * (w - i) + ce * (e - i))
    return np.clip(np.log(i) / 3, 0, 1).astype(np.float32)


class MimickNet:
    """U-Net of 5 levels x 2 convolutions of 16 channels (Huang 2020); weights as `conv2d[_n]`, `conv2d_transpose[_n]`."""

    def __init__(self, path):
        from safetensors.torch import load_file

        self.w = load_file(path)

    def _conv(self, i, t):
        name = "conv2d" + (f"_{i}" if i else "")
        w = self.w[name + ".weight"]
        return F.conv2d(t, w, self.w[name + ".bias"], padding=w.shape[-1] // 2)

    @torch.no_grad()
    def __call__(self, x):
        h, w = x.shape
        t = torch.from_numpy(np.ascontiguousarray(x, np.float32))[None, None]
        t = F.pad(t, (0, -w % 16, 0, -h % 16), mode="reflect")
        skips, i = [], 0
        for level in range(5):
            for _ in range(2):
                t = F.leaky_relu(self._conv(i, t), 0.2)
                i += 1
            if level < 4:
                skips.append(t)
                t = F.max_pool2d(t, 2)
        for level in range(4):
            name = "conv2d_transpose" + (f"_{level}" if level else "")
            t = F.conv_transpose2d(t, self.w[name + ".weight"], self.w[name + ".bias"], stride=2)
            t = torch.cat([t, skips.pop()], 1)
            for _ in range(2):
                t = F.relu(self._conv(i, t))
                i += 1
        return self._conv(18, t)[0, 0, :h, :w].clamp(0, 1).numpy()
