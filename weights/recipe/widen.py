"""Weights of sonolume-s -> weights of sonolume-m that compute the same, to train on from there (Net2Net).

    python widen.py --source WORK/supervised-ema.pt --out m0.pt [--half] [--seed 1]
    python widen.py --source TWO.pt --add M1.pt --from ONE.pt --share 0.7 --out m2.pt

The second command carries over what sonolume-m learnt since it was widened: widen(TWO) + share * (M1 - widen(ONE)), M1 trained from
widen(ONE). All widen with the same seed, hence alike. What only TWO has (the signal gate) is taken from it.

Channel j of sonolume-m holds channel j % C of sonolume-s; before a gate so in each half, in qkv in each third. Weights from
duplicated inputs are split into random shares, so that the copies get different gradients. Blocks that sonolume-s lacks come
after its own and start with conv2 at zero.
"""

from __future__ import annotations

import argparse
import zlib

import torch

import export
import model

SMALL, LARGE = "sonolume-s", "sonolume-m"


def wide(few: int, many: int, parts: int = 1) -> torch.Tensor:
    """[many]: which of `few` channels each holds, in each of `parts` equal parts on its own."""
    assert many % few == 0 and few % parts == 0, (few, many, parts)
    return torch.cat([p * (few // parts) + torch.arange(many // parts) % (few // parts) for p in range(parts)])


def widen_tensor(name: str, v: torch.Tensor, shape: torch.Size, g: torch.Generator, noise: float) -> torch.Tensor:
    module, kind = name.split(".")[-2:]
    if kind == "relative_position_bias_table":
        return v[:, wide(v.shape[1], shape[1])]
    out = wide(v.shape[0], shape[0], {"conv1": 2, "mix": 2, "qkv": 3}.get(module, 1))
    if v.dim() == 1 or module in ("depthwise", "signal"):  # biases, norms; one input each
        return v[out]
    if module == "mix":  # its last input is the image
        source = torch.cat([wide(v.shape[1] - 1, shape[1] - 1), torch.tensor([v.shape[1] - 1])])
    else:
        source = wide(v.shape[1], shape[1])
    same = (source[:, None] == source[None]).double()  # [many, many]: inputs that are copies of each other
    r = 0.43 + 0.57 * torch.rand(len(out), len(source), dtype=torch.float64, generator=g)  # two copies: 0.3 to 0.7
    tail = (...,) + (None,) * (v.dim() - 2)
    w = v.double()[out][:, source] * (r / (r @ same))[tail]
    if noise:  # of sum zero over the copies
        n = torch.randn(w.shape, dtype=torch.float64, generator=g)
        n = n - torch.einsum("oi...,ij->oj...", n, same / same.sum(0))
        w = w + noise * w.std() * n
    return w.to(v.dtype)


@torch.no_grad()
def widen(small: model.Sonolume, seed: int = 1, noise: float = 0.0) -> model.Sonolume:
    """sonolume-m with the parts that `small` has, computing what it computes. What is random depends on the seed and the tensor's name
    alone."""
    net = model.build(LARGE, gate=small.signal and small.signal.kind, context=small.context is not None)
    source, state = small.state_dict(), {}
    key = lambda name: zlib.crc32(f"{seed} {name}".encode())
    for name, v in net.state_dict().items():
        if name in source:
            state[name] = widen_tensor(name, source[name], v.shape, torch.Generator().manual_seed(key(name)), noise)
    for coder in ("encoder", "decoder"):
        for i, blocks in enumerate(getattr(net, coder)):
            for j in range(len(getattr(small, coder)[i]), len(blocks)):
                name = f"{coder}.{i}.{j}"
                with torch.random.fork_rng(devices=[]):
                    torch.manual_seed(key(name))
                    fresh = model.Block(blocks[j].norm.weight.numel())
                fresh.conv2.weight.zero_()
                fresh.conv2.bias.zero_()
                state |= {f"{name}.{k}": v for k, v in fresh.state_dict().items()}
    net.load_state_dict(state)
    return net.eval()


def add(two: dict, m1: dict, one: dict, share: float) -> dict:
    """widen(s2) + share * (m1 - widen(s1)), given the widened states."""
    assert m1.keys() == one.keys(), f"--add and --from differ in {m1.keys() ^ one.keys()}"
    assert m1.keys() <= two.keys(), f"--source lacks {m1.keys() - two.keys()}"
    return {k: v + share * (m1[k] - one[k]) if k in m1 else v for k, v in two.items()}


def difference(a: model.Sonolume, b: model.Sonolume) -> float:
    """The largest difference of their outputs on a noisy ramp."""
    x = torch.rand(1, 1, 96, 128, generator=torch.Generator().manual_seed(0)) * torch.linspace(0, 1, 128)
    with torch.no_grad():
        return float((a(x) - b(x)).abs().max())


def main():
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    p.add_argument("--source", required=True, help="sonolume-s, a checkpoint or an exported .safetensors")
    p.add_argument("--out", required=True)
    p.add_argument("--seed", type=int, default=1)
    p.add_argument("--noise", type=float, default=0.0,
                   help="split weights also by noise of sum zero, in their standard deviations: copies differ more")
    p.add_argument("--half", action="store_true", help="store f16")
    p.add_argument("--add", metavar="M1", help="sonolume-m trained from --from widened with the same seed and noise")
    p.add_argument("--from", dest="start", metavar="S1", help="the sonolume-s that --add was started from")
    p.add_argument("--share", type=float, default=1.0, help="of what --add learnt")
    a = p.parse_args()
    if bool(a.add) != bool(a.start):
        p.error("--add and --from go together")

    small, meta = export.load(a.source)
    assert meta["size"] == SMALL, meta["size"]
    net = widen(small, a.seed, a.noise)
    print(f"widened: differs by {difference(net, small):.1e}")
    stage, step = meta["stage"], 0
    if a.add:
        m1, meta1 = export.load(a.add)
        assert meta1["size"] == LARGE, meta1["size"]
        start = widen(export.load(a.start)[0], a.seed, a.noise)
        net.load_state_dict(add(net.state_dict(), m1.state_dict(), start.state_dict(), a.share))
        step = f"{meta['step']} widened and {a.share:g} of {meta1['step']}"
    state = {k: v.half() if a.half else v for k, v in net.state_dict().items()}
    torch.save(dict(net=state, step=step, size=LARGE, stage=stage), a.out)
    if a.half:
        net.load_state_dict(state)
    print(f"{a.out}: {sum(v.numel() for v in state.values()) / 1e6:.3f} M, differs by {difference(net, small):.1e}")


if __name__ == "__main__":
    main()
