"""Pictures to look at: simulated phantoms before and after, and crops of held-out images at 300 %.

    python pictures.py --model FILE --phantoms phantoms.png
    python pictures.py --model FILE --data DATA --organs DIRECTORY [--index 0.5]

The organ crops are input, output and cart image side by side (the cart image is of the same site, not registered).
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch
from PIL import Image

import data
import export
import phantoms


def simulated() -> list[np.ndarray]:
    """Cysts and points, uniform speckle, speckle that fades into noise, speckle cut off at a black edge."""
    n = 192
    rng = np.random.default_rng(3)
    echo, _, dots = phantoms.echo_map(rng, n, 5, 0, 4)
    plain = np.ones((n, n))
    depth = np.arange(n)[:, None] / n
    cut = phantoms.image(rng, plain, [], 2.0, 1.1)
    cut[110:] = 0
    return [
        phantoms.image(rng, echo, dots, 2.0, 1.1),
        phantoms.image(rng, plain, [], 2.0, 1.1),
        phantoms.image(rng, plain * 10 ** (-6 * depth), [], 2.4, 1.1, -10, 55, floor_db=-58),
        cut,
    ]


def eight(t) -> np.ndarray:
    return (np.clip(t, 0, 1) * 255 + 0.5).astype(np.uint8)


def main():
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    p.add_argument("--model", required=True)
    p.add_argument("--phantoms")
    p.add_argument("--data")
    p.add_argument("--organs")
    p.add_argument("--index", type=float, default=0.5, help="which held-out image, 0 to 1")
    p.add_argument("--threads", type=int, default=1)
    a = p.parse_args()
    torch.set_num_threads(a.threads)
    net, _ = export.load(a.model)

    @torch.no_grad()
    def run(x):
        return net(torch.from_numpy(np.ascontiguousarray(x, np.float32))[None, None])[0, 0].numpy()

    if a.phantoms:
        images = simulated()
        Image.fromarray(np.vstack([np.hstack([eight(i) for i in images]), np.hstack([eight(run(i)) for i in images])])).save(a.phantoms, optimize=True)
    if a.organs:
        Path(a.organs).mkdir(parents=True, exist_ok=True)
        low, high = (data.load_usenhance(a.data, side, "held") for side in ("low", "high"))
        for organ in data.ORGANS:
            i = round(a.index * (len(low[organ]) - 1))
            x = low[organ][i]
            row = np.hstack([t[48:208, 48:208] for t in (x, eight(run(x.astype(np.float32) / 255)), high[organ][i])])
            Image.fromarray(row).resize((3 * row.shape[1], 3 * row.shape[0]), Image.Resampling.NEAREST).save(Path(a.organs) / f"{organ}.png")


if __name__ == "__main__":
    main()
