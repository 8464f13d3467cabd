"""Weights of a checkpoint -> f16 safetensors, and a reference pair computed from the rounded weights in f32.

    python export.py --checkpoint WORK/unpaired-ema.pt --out sonolume-s.safetensors [--reference reference.safetensors]
"""

from __future__ import annotations

import argparse
import hashlib
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save_file

import model

VERSION = "1"


def load(path: str) -> tuple[model.Sonolume, dict]:
    """A network from a training checkpoint or an exported file."""
    if str(path).endswith(".safetensors"):
        from safetensors import safe_open

        with safe_open(path, "pt") as f:
            meta = f.metadata()
        meta["step"] = meta["steps"]
        state = {k: v.float() for k, v in load_file(path).items()}
    else:
        meta = torch.load(path, map_location="cpu", weights_only=False)
        state = meta.pop("net")
    gate = "wide" if "signal.columns.weight" in state else "box" if "signal.weight" in state else None
    net = model.build(meta["size"], gate=gate, context="context.conv1.weight" in state)
    net.load_state_dict(state)
    return net.eval(), meta


def main():
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    p.add_argument("--checkpoint", required=True)
    p.add_argument("--out", required=True)
    p.add_argument("--reference")
    p.add_argument("--average", nargs="+", default=[], metavar="FILE",
                   help="checkpoints of the same run, or what it started from: ship a mean of all")
    p.add_argument("--share", type=float, help="of the others together in the mean; by default each has the same")
    p.add_argument("--note", default="")
    a = p.parse_args()

    net, meta = load(a.checkpoint)
    if a.average:
        others = [load(file) for file in a.average]
        share = len(others) / (len(others) + 1) if a.share is None else a.share
        mean = lambda k: sum(other.state_dict()[k] for other, _ in others) / len(others)
        net.load_state_dict({k: v.lerp(mean(k), share) for k, v in net.state_dict().items()})
        meta["step"] = f"{1 - share:g} of {meta['step']}, {share:g} of the mean of {', '.join(str(m['step']) for _, m in others)}"
    half = {k: v.half().contiguous() for k, v in net.state_dict().items()}
    for k, v in half.items():
        assert torch.isfinite(v).all(), f"{k} does not fit f16"
    metadata = dict(
        architecture="sonolume", size=meta["size"], version=VERSION, stage=meta["stage"], steps=str(meta["step"]),
        licence="CC BY-SA 4.0",
        sources="USenhance 2023 (CC BY-SA), BUSI (CC BY 4.0), HC18 (CC BY 4.0), TimTrack vastus lateralis (CC0)",
        use="not a medical device; not for diagnostic use",
    )
    if a.note:
        metadata["note"] = a.note
    save_file(half, a.out, metadata)
    net.load_state_dict({k: v.float() for k, v in half.items()})

    # the largest activation anywhere, on a hard input: f16 ends at 65504
    peak = 0.0

    def hook(m, i, o):
        nonlocal peak
        peak = max(peak, float(o.abs().max()))

    hooks = [m.register_forward_hook(hook) for m in net.modules() if not list(m.children())]
    g = torch.Generator().manual_seed(0)
    x = torch.rand(1, 1, 67, 93, generator=g)
    x[:, :, 20:50, 30:70] *= 0.1
    x[:, :, 40:, :20] = 0
    x[:, :, :10, 60:] = 1
    with torch.no_grad():
        y = net(x)
    for h in hooks:
        h.remove()
    print(f"{a.out}: sha256 {hashlib.sha256(Path(a.out).read_bytes()).hexdigest()}, peak activation {peak:.1f}")
    if a.reference:
        save_file({"input": x.contiguous(), "output": y.contiguous()}, a.reference)


if __name__ == "__main__":
    main()
