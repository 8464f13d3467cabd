"""Writes metrics.json: PSNR and SSIM by scikit-image, MS-SSIM and LNCC by SciPy, on images a formula makes.

The images are not stored: both sides compute them from integers (see `picture` here and in tests/metrics.rs).
Run: python tests/goldens/make_metrics.py   (numpy, scipy, scikit-image 0.26)
"""

import json
import pathlib

import numpy as np
from scipy.ndimage import gaussian_filter, uniform_filter
from skimage.metrics import peak_signal_noise_ratio, structural_similarity


def picture(width, height, seed):
    """A blocky ramp with noise, 8-bit levels / 255 as f32."""
    y, x = np.mgrid[0:height, 0:width].astype(np.uint64)
    mixed = (x * 73856093 + y * 19349663 + seed * 83492791) & 0xFFFFFFFF
    mixed = (mixed ^ (mixed >> 13)) * 1274126177 & 0xFFFFFFFF
    noise = (mixed >> 16) % 64
    level = (x * 3 + y * 2 + 40 * ((x // 16 + y // 12) % 3)) % 192 + noise * (1 + seed % 2) // 2
    # A corner without any variance.
    level[: height // 3, : width // 4] = 20
    return (level.astype(np.float32) / np.float32(255)).astype(np.float32)


def maps(a, b):
    blur = lambda v: gaussian_filter(v, 1.5, truncate=3.5)[5:-5, 5:-5]
    ma, mb = blur(a), blur(b)
    va, vb, cov = blur(a * a) - ma * ma, blur(b * b) - mb * mb, blur(a * b) - ma * mb
    cs = (2 * cov + 0.03**2) / (va + vb + 0.03**2)
    return (2 * ma * mb + 0.01**2) / (ma * ma + mb * mb + 0.01**2) * cs, cs


def ms_ssim(a, b):
    result = 1.0
    for scale, weight in enumerate([0.0448, 0.2856, 0.3001, 0.2363, 0.1333]):
        ssim, cs = maps(a, b)
        result *= max((ssim if scale == 4 else cs).mean(), 0.0) ** weight
        half = lambda v: v[: v.shape[0] // 2 * 2, : v.shape[1] // 2 * 2].reshape(v.shape[0] // 2, 2, -1, 2).mean((1, 3))
        a, b = half(a), half(b)
    return result


def lncc(a, b, mask):
    mean = lambda v: uniform_filter(v, 9)[4:-4, 4:-4]
    ma, mb = mean(a), mean(b)
    va, vb, cov = mean(a * a) - ma * ma, mean(b * b) - mb * mb, mean(a * b) - ma * mb
    flat_a, flat_b = va <= 1e-12, vb <= 1e-12
    cc = np.where(flat_a | flat_b, 0.0, cov / np.sqrt(np.where(flat_a | flat_b, 1.0, va * vb)))
    return cc[~(flat_a & flat_b) & mask[4:-4, 4:-4]].mean()


cases = []
for width, height in [(11, 13), (64, 31), (97, 53), (211, 179)]:
    a, b = picture(width, height, 1), picture(width, height, 2)
    b[: height // 6, : width // 8] = np.float32(0.5)
    y, x = np.mgrid[0:height, 0:width]
    mask = (x + 2 * y) % 7 < 4
    ssim = structural_similarity(
        a.astype(np.float64), b.astype(np.float64), data_range=1.0, gaussian_weights=True, sigma=1.5,
        use_sample_covariance=False, full=True,
    )
    a, b = a.astype(np.float64), b.astype(np.float64)
    case = {
        "width": width,
        "height": height,
        "psnr": peak_signal_noise_ratio(a, b, data_range=1.0),
        "psnr_masked": peak_signal_noise_ratio(a[mask], b[mask], data_range=1.0),
        "ssim": ssim[0],
        "ssim_masked": ssim[1][5:-5, 5:-5][mask[5:-5, 5:-5]].mean(),
        "lncc": lncc(a, b, np.ones_like(mask)),
        "lncc_masked": lncc(a, b, mask),
    }
    if min(width, height) >= 176:
        case["ms_ssim"] = ms_ssim(a, b)
    cases.append({key: value if isinstance(value, int) else float(value) for key, value in case.items()})
text = json.dumps(cases, indent=1)
pathlib.Path(__file__).with_name("metrics.json").write_text(text + "\n")
print(text)
