"""Makes tests/goldens/ops/<stem>.safetensors: PyTorch's answer to every line of tests/ops/<stem>.txt.

    python tests/goldens/make_ops.py [STEM ...]

Needs torch, numpy and safetensors; seeded by each case's own text, so a new line changes no other golden.
"""

import sys
import zlib
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import save_file

ROOT = Path(__file__).resolve().parent.parent


class Case:
    """One line of a case table, with a random generator of its own."""

    def __init__(self, line, fields):
        self.key, self.fields = line, fields
        self.random = torch.Generator().manual_seed(zlib.crc32(line.encode()))

    def __contains__(self, key):
        return key in self.fields

    def text(self, key):
        return self.fields[key]

    def integer(self, key):
        return int(self.fields[key])

    def real(self, key, default=None):
        return float(self.fields.get(key, default))

    def sizes(self, key, separator="x"):
        return [int(part) for part in self.fields[key].split(separator)]

    def normal(self, *shape, scale=1.0):
        """Normally distributed, f64: references are computed in f64 and rounded once."""
        return torch.randn(*shape, generator=self.random, dtype=torch.float64).float().double() * scale

    def uniform(self, *shape, low=0.0, high=1.0):
        values = torch.rand(*shape, generator=self.random, dtype=torch.float64) * (high - low) + low
        return values.float().double()


def cases(stem):
    defaults = {}
    for line in (ROOT / "ops" / f"{stem}.txt").read_text().splitlines():
        line = line.strip()
        if not line or line.startswith("#"):
            continue
        is_default = line.startswith("default ")
        line = line.removeprefix("default ")
        fields = dict(defaults, **dict(pair.split("=", 1) for pair in line.split()))
        if is_default:
            defaults = fields
        else:
            yield Case(line, fields)


def activate(case, x, slopes=None):
    name, _, slope = case.text("act").partition(":")
    return {
        "none": lambda: x,
        "relu": lambda: F.relu(x),
        "leaky": lambda: F.leaky_relu(x, float(slope)),
        "prelu": lambda: F.prelu(x, slopes),
        "silu": lambda: F.silu(x),
        "gelu": lambda: F.gelu(x),
        "gelu_tanh": lambda: F.gelu(x, approximate="tanh"),
        "sigmoid": lambda: torch.sigmoid(x),
        "tanh": lambda: torch.tanh(x),
    }[name]()


def slopes_of(case, channels):
    """PReLU's parameter, or nothing."""
    if not case.text("act").startswith("prelu"):
        return []
    return [case.uniform(1 if "slopes" in case else channels, low=-0.5, high=0.5)]


PAD_MODES = {"zero": "constant", "reflect": "reflect", "replicate": "replicate"}


def pad(case, x):
    top, bottom, left, right = case.sizes("pad", ",")
    return F.pad(x, (left, right, top, bottom), mode=PAD_MODES[case.text("border")])


# Each function answers (inputs, params, output).


def activation(case):
    x = case.uniform(1, *case.sizes("src"), low=-1, high=1) * case.real("range", 3)
    slopes = slopes_of(case, x.shape[1])
    return [x], slopes, activate(case, x, *slopes)


def conv2d(case):
    channels, height, width = case.sizes("src")
    x = case.normal(1, channels, height, width)
    kernel, groups, out = case.sizes("kernel"), case.integer("groups"), case.integer("out")
    weight = case.normal(out, channels // groups, *kernel, scale=(channels // groups * kernel[0] * kernel[1]) ** -0.5)
    weight = weight.float().double()
    params = [weight] + ([case.normal(out)] if case.integer("bias") else [])
    y = F.conv2d(pad(case, x), weight, params[1] if len(params) > 1 else None, case.sizes("stride"), 0,
                 case.sizes("dilation"), groups)
    slopes = slopes_of(case, out)
    inputs = [x]
    if case.text("residual") != "none":
        inputs.append(case.normal(*y.shape))
    if case.text("residual") == "before":
        y = y + inputs[1]
    y = activate(case, y, *slopes)
    if case.text("residual") == "after":
        y = y + inputs[1]
    return inputs, params + slopes, y


def main():
    stems = sys.argv[1:] or sorted(path.stem for path in (ROOT / "ops").glob("*.txt"))
    for stem in stems:
        tensors = {}
        for case in cases(stem):
            inputs, params, output = globals()[stem](case)
            for kind, values in (("input", inputs), ("param", params)):
                for index, value in enumerate(values):
                    tensors[f"{case.key}/{kind}{index}"] = value.float().contiguous()
            tensors[f"{case.key}/output"] = output.float().contiguous()
        path = ROOT / "goldens" / "ops" / f"{stem}.safetensors"
        save_file(tensors, path, metadata={"torch": torch.__version__})
        print(stem, len(tensors), "tensors", path.stat().st_size, "bytes")


if __name__ == "__main__":
    main()
