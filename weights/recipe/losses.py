"""Image similarities used as losses and measures; all on [n, 1, h, w] in [0, 1]."""

from __future__ import annotations

import functools

import torch
import torch.nn.functional as F


@functools.cache
def gaussian(sigma: float, radius: int, device=None) -> torch.Tensor:
    """Kept on every device: copying it there each time would wait for the device."""
    if device is not None:
        return gaussian(sigma, radius).to(device)
    t = torch.arange(-radius, radius + 1, dtype=torch.float32)
    g = torch.exp(-0.5 * (t / sigma) ** 2)
    return g / g.sum()


def filter2(x, k):
    """Separable filter of every channel, valid region."""
    c = x.shape[1]
    k = k.to(x)
    x = F.conv2d(x, k[None, None, None].expand(c, 1, 1, -1), groups=c)
    return F.conv2d(x, k[None, None, :, None].expand(c, 1, -1, 1), groups=c)


def ssim_map(a, b):
    """Wang 2004: Gaussian 11x11, sigma 1.5, population covariance, L = 1."""
    t = filter2(torch.cat([a, b, a * a, b * b, a * b], 1), gaussian(1.5, 5, a.device))
    ma, mb, aa, bb, ab = t.split(1, 1)
    va, vb, cov = aa - ma * ma, bb - mb * mb, ab - ma * mb
    c1, c2 = 0.01**2, 0.03**2
    return ((2 * ma * mb + c1) * (2 * cov + c2)) / ((ma * ma + mb * mb + c1) * (va + vb + c2))


def ssim(a, b):
    return ssim_map(a, b).mean((1, 2, 3))


def psnr(a, b):
    return -10 * torch.log10(((a - b) ** 2).mean((1, 2, 3)).clamp_min(1e-12))


def lncc(a, b, window: int = 9, eps: float = 1e-5):
    """Centred local normalised cross-correlation, mean over the windows in which both images vary."""
    t = F.avg_pool2d(torch.cat([a, b, a * a, b * b, a * b], 1), window, 1)
    ma, mb, aa, bb, ab = t.split(1, 1)
    va, vb, cov = (aa - ma * ma).clamp_min(0), (bb - mb * mb).clamp_min(0), ab - ma * mb
    ok = ((va > eps) & (vb > eps)).float()
    value = cov / torch.sqrt(va.clamp_min(eps) * vb.clamp_min(eps))
    return (value * ok).sum((1, 2, 3)) / ok.sum((1, 2, 3)).clamp_min(1)


def pyramid(x, levels: int = 4):
    """Laplacian pyramid: blur sigma 1, every second pixel, back by repetition and the same blur; the last level is the
    low-pass rest."""
    k = gaussian(1.0, 4, x.device)

    def blur(t):
        return filter2(F.pad(t, (4, 4, 4, 4), mode="reflect"), k)

    out = []
    for _ in range(levels - 1):
        small = blur(x)[:, :, ::2, ::2]
        up = blur(small.repeat_interleave(2, 2).repeat_interleave(2, 3))[:, :, : x.shape[2], : x.shape[3]]
        out.append(x - up)
        x = small
    return out + [x]


def patches(x, count: int, generator, size: int = 7):
    """`count` random size x size patches of every image, [n * count, size * size]."""
    n, _, h, w = x.shape
    y = torch.randint(0, h - size + 1, (n, count), generator=generator)
    z = torch.randint(0, w - size + 1, (n, count), generator=generator)
    y, z, o = y.to(x.device), z.to(x.device), torch.arange(size, device=x.device)
    i = (y[..., None, None] + o[:, None]) * w + z[..., None, None] + o
    return x.reshape(n, -1).gather(1, i.reshape(n, -1)).view(-1, size * size)


def sliced_wasserstein(a, b, directions: int, generator):
    """Mean absolute difference of the sorted projections of two sets of patches [m, d] on random unit vectors."""
    u = torch.randn(a.shape[1], directions, generator=generator).to(a)
    u = u / u.norm(dim=0)
    m = min(len(a), len(b))
    pa, pb = (a @ u).sort(0).values, (b @ u).sort(0).values
    if len(pa) != len(pb):  # quantiles at the same positions
        q = (torch.arange(m, device=a.device) + 0.5) / m
        pa = pa[(q * len(pa)).long()]
        pb = pb[(q * len(pb)).long()]
    return (pa - pb).abs().mean()


def swd(a, b, levels: int = 4, per_image: int = 128, directions: int = 256, seed: int = 0):
    """x1000, one value a level, finest first."""
    g = torch.Generator().manual_seed(seed)
    return [
        1000 * float(sliced_wasserstein(patches(p, per_image, g), patches(q, per_image, g), directions, g))
        for p, q in zip(pyramid(a, levels), pyramid(b, levels))
    ]
