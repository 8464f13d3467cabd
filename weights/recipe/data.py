"""Data listing, index-block splits, masks and crops.

`--data` names a directory with

    usenhance/<organ>/{low,high}/NNNN.png   USenhance 2023, 256x256; equal index = same site, not registered
    hq/<set>/*.png, hq/MANIFEST.csv         other cart images (columns path, dataset, group)

Images are split by blocks of indices, never at random, because neighbouring indices are one patient: of every organ
the last tenth of the indices is held out, and of every hq set the last tenth of the groups.
"""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
from PIL import Image

ORGANS = ("breast", "carotid", "kidney", "liver", "thyroid")
CONVEX = ("kidney", "liver")  # their cart images carry a burned-in logo and body marks outside the sector
SHARP_SETS = ("busi", "hc18", "timtrack_vl")  # hq sets good enough to be targets; pocus_lung is not
HOLD_OUT = 0.10


def read_grey(path) -> np.ndarray:
    return np.asarray(Image.open(path).convert("L"))


def without_marks(image: np.ndarray) -> np.ndarray:
    """A convex cart image without the logo beside the top left corner of the sector and, where one is drawn (strokes
    far brighter than that corner ever is), without the body mark at the bottom right."""
    image = image.copy()
    image[:17, 58:88] = 0
    if image[196:, 222:].max() > 110:
        image[192:, 220:] = 0
    return image


def usenhance_split(root, organ: str) -> tuple[list[str], list[str]]:
    """(training, held out) file names of one organ."""
    names = sorted(p.name for p in (Path(root) / "usenhance" / organ / "high").glob("*.png"))
    cut = len(names) - max(1, round(HOLD_OUT * len(names)))
    return names[:cut], names[cut:]


def load_usenhance(root, side: str, part: str, mask_logos: bool = True) -> dict[str, list[np.ndarray]]:
    """organ -> 8-bit images; `side` low or high, `part` train or held."""
    out = {}
    for organ in ORGANS:
        names = usenhance_split(root, organ)[0 if part == "train" else 1]
        images = [read_grey(Path(root) / "usenhance" / organ / side / n) for n in names]
        if side == "high" and organ in CONVEX and mask_logos:
            images = [without_marks(im) for im in images]
        out[organ] = images
    return out


def load_hq(root, part: str, sets=SHARP_SETS) -> list[np.ndarray]:
    path = Path(root) / "hq" / "MANIFEST.csv"
    if not path.exists():
        return []
    with open(path, newline="") as f:
        rows = [r for r in csv.DictReader(f) if r["dataset"] in sets]
    out = []
    for name in sets:
        mine = [r for r in rows if r["dataset"] == name]
        groups = sorted({r["group"] for r in mine})
        held = set(groups[len(groups) - max(1, round(HOLD_OUT * len(groups))) :]) if groups else set()
        out += [read_grey(Path(root) / r["path"]) for r in mine if (r["group"] in held) == (part == "held")]
    return out


def resize(image: np.ndarray, height: int, width: int) -> np.ndarray:
    return np.asarray(Image.fromarray(image).resize((width, height), Image.Resampling.BICUBIC))


class Crops:
    """Random crops with the row coordinates of the whole image they come from."""

    def __init__(self, organs: dict[str, list[np.ndarray]], extra: list[np.ndarray], rng: np.random.Generator):
        self.organs, self.extra, self.rng = organs, extra, rng

    def one(self, size: int, organ: str | None = None, zoom: float = 0.25, extra: float = 0.15, top: float | None = None):
        """(crop [size, size] f32, rows [size] f32, organ, top); `top` fixes the relative vertical position."""
        r = self.rng
        if organ is None and self.extra and r.random() < extra:
            organ = "extra"
            image = self.extra[r.integers(len(self.extra))]
            h, w = image.shape
            s = r.uniform(max(224, size), 420) / min(h, w)
            if s < 1:
                image = resize(image, max(size, round(h * s)), max(size, round(w * s)))
            if min(image.shape) < size:
                image = np.pad(image, [(0, max(0, size - n)) for n in image.shape], mode="reflect")
        else:
            organ = organ or ORGANS[r.integers(len(ORGANS))]
            image = self.organs[organ][r.integers(len(self.organs[organ]))]
            if r.random() < zoom:
                h, w = image.shape
                s = np.exp(r.uniform(np.log(max(0.75, size / min(h, w))), np.log(1.6)))
                image = resize(image, max(size, round(h * s)), max(size, round(w * s)))
        h, w = image.shape
        if top is None:
            top = r.random()
        y, x = round(top * (h - size)), int(r.integers(w - size + 1))
        crop = image[y : y + size, x : x + size].astype(np.float32) / 255
        if r.random() < 0.5:
            crop = crop[:, ::-1]
        rows = (np.arange(y, y + size, dtype=np.float32)) / max(h - 1, 1)
        return np.ascontiguousarray(crop), rows, organ, top

    def zoomed(self, size: int, organ: str, zoom: float, top: float | None = None):
        """(crop, rows, top) of a random image of one organ, resized by exactly `zoom`."""
        r = self.rng
        image = self.organs[organ][r.integers(len(self.organs[organ]))]
        if zoom != 1:
            image = resize(image, *(max(size, round(n * zoom)) for n in image.shape))
        h, w = image.shape
        top = r.random() if top is None else top
        y, x = round(top * (h - size)), int(r.integers(w - size + 1))
        crop = image[y : y + size, x : x + size].astype(np.float32) / 255
        if r.random() < 0.5:
            crop = crop[:, ::-1]
        return np.ascontiguousarray(crop), np.arange(y, y + size, dtype=np.float32) / max(h - 1, 1), top

    def batch(self, n: int, size: int, **kwargs):
        import torch

        items = [self.one(size, **kwargs) for _ in range(n)]
        return (
            torch.from_numpy(np.stack([i[0] for i in items]))[:, None],
            torch.from_numpy(np.stack([i[1] for i in items])),
            [i[2] for i in items],
            [i[3] for i in items],
        )
