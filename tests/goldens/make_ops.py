"""Makes tests/goldens/ops/<stem>.safetensors: PyTorch's answer to every line of tests/ops/<stem>.txt.

    python tests/goldens/make_ops.py [STEM ...]

Needs torch, numpy and safetensors; seeded by each case's own text, so a new line changes no other golden.
"""

import sys
import zlib
from pathlib import Path

import numpy
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


def padded(case, x, sides):
    top, bottom, left, right = sides
    mode = PAD_MODES[case.text("border")]
    if mode == "reflect" and (max(top, bottom) >= x.shape[2] or max(left, right) >= x.shape[3]):
        # PyTorch refuses to mirror more than once.
        return torch.from_numpy(numpy.pad(x.numpy(), ((0, 0), (0, 0), (top, bottom), (left, right)), mode="reflect"))
    return F.pad(x, (left, right, top, bottom), mode=mode)


# Each function answers (inputs, params, output).


def activation(case):
    x = case.uniform(1, *case.sizes("src"), low=-1, high=1) * case.real("range", 3)
    slopes = slopes_of(case, x.shape[1])
    return [x], slopes, activate(case, x, *slopes)


def concat(case):
    channels, height, width = case.sizes("src")
    inputs = [case.normal(1, channels, height, width), case.normal(1, case.integer("second"), height, width)]
    return inputs, [], torch.cat(inputs, 1)


def conv2d(case):
    channels, height, width = case.sizes("src")
    x = case.normal(1, channels, height, width)
    kernel, groups, out = case.sizes("kernel"), case.integer("groups"), case.integer("out")
    weight = case.normal(out, channels // groups, *kernel, scale=(channels // groups * kernel[0] * kernel[1]) ** -0.5)
    weight = weight.float().double()
    params = [weight] + ([case.normal(out)] if case.integer("bias") else [])
    y = F.conv2d(padded(case, x, case.sizes("pad", ",")), weight, params[1] if len(params) > 1 else None, case.sizes("stride"), 0,
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


def conv_transpose2d(case):
    channels, height, width = case.sizes("src")
    x = case.normal(1, channels, height, width)
    kernel, groups, out = case.sizes("kernel"), case.integer("groups"), case.integer("out")
    weight = case.normal(channels, out // groups, *kernel, scale=(channels // groups * kernel[0] * kernel[1]) ** -0.5)
    weight = weight.float().double()
    params = [weight] + ([case.normal(out)] if case.integer("bias") else [])
    y = F.conv_transpose2d(x, weight, params[1] if len(params) > 1 else None, case.sizes("stride"), case.sizes("pad"),
                           case.sizes("extra"), groups, case.sizes("dilation"))
    slopes = slopes_of(case, out)
    return [x], params + slopes, activate(case, y, *slopes)


def crop(case):
    x = case.normal(1, *case.sizes("src"))
    if "like" in case:
        like, scale = case.normal(1, *case.sizes("like")), case.sizes("scale")
        return [x, like], [], x[:, :, :like.shape[2] * scale[0], :like.shape[3] * scale[1]]
    top, bottom, left, right = case.sizes("crop", ",")
    return [x], [], F.pad(x, (-left, -right, -top, -bottom))


def global_pool(case):
    # Means away from zero: else a mean of many is small against its own summands, and the tolerance measures nothing.
    x = case.normal(1, *case.sizes("src")) + 0.5
    x = x.float().double()
    return [x], [], (F.adaptive_max_pool2d if case.text("kind") == "max" else F.adaptive_avg_pool2d)(x, 1)


def linear(case):
    channels, height, width = case.sizes("src")
    x = case.normal(1, channels, height, width)
    out = case.integer("out")
    weight = case.normal(out, channels, scale=channels**-0.5).float().double()
    params = [weight] + ([case.normal(out)] if case.integer("bias") else [])
    y = F.linear(x.permute(0, 2, 3, 1), *params).permute(0, 3, 1, 2)
    slopes = slopes_of(case, out)
    inputs = [x]
    if case.text("residual") != "none":
        inputs.append(case.normal(*y.shape))
    if case.text("residual") == "before":
        y = y + inputs[1]
    y = activate(case, y, *slopes)
    if case.text("residual") == "after":
        y = y + inputs[1]
    if case.integer("rank") == 4:
        params[0] = weight[:, :, None, None]
    return inputs, params + slopes, y


def pad(case):
    x = case.normal(1, *case.sizes("src"))
    if "multiple" in case:
        bottom, right = (-size % multiple for size, multiple in zip(x.shape[2:], case.sizes("multiple")))
        sides = [0, bottom, 0, right]
    else:
        sides = case.sizes("pad", ",")
    return [x], [], padded(case, x, sides)


def pixel_shuffle(case):
    x = case.normal(1, *case.sizes("src"))
    return [x], [], F.pixel_shuffle(x, case.integer("factor"))


def pixel_unshuffle(case):
    x = case.normal(1, *case.sizes("src"))
    return [x], [], F.pixel_unshuffle(x, case.integer("factor"))


def pool2d(case):
    x = case.normal(1, *case.sizes("src"))
    top, bottom, left, right = case.sizes("pad", ",")
    kernel, stride = case.sizes("kernel"), case.sizes("stride")
    sides = (left, right, top, bottom)
    if case.text("kind") == "max":
        return [x], [], F.max_pool2d(F.pad(x, sides, value=-torch.inf), kernel, stride)
    mean = F.avg_pool2d(F.pad(x, sides), kernel, stride)
    if not case.integer("count_pad"):
        # The share of each window that is image; for symmetric padding `avg_pool2d` has its own word for it.
        mean = mean / F.avg_pool2d(F.pad(torch.ones_like(x), sides), kernel, stride)
        if top == bottom and left == right:
            assert torch.allclose(mean, F.avg_pool2d(x, kernel, stride, (top, left), count_include_pad=False))
    return [x], [], mean


def row_coordinate(case):
    x = case.normal(1, *case.sizes("src"))
    height, width = x.shape[2:]
    return [x], [], torch.linspace(0, 1, height, dtype=torch.float64).reshape(1, 1, height, 1).expand(1, 1, height, width)


def upsample(case):
    x = case.normal(1, *case.sizes("src"))
    mode = case.text("mode")
    options = {} if mode == "nearest" else {"align_corners": mode == "corners"}
    scale = tuple(map(float, case.sizes("scale")))
    return [x], [], F.interpolate(x, scale_factor=scale, mode="nearest" if mode == "nearest" else "bilinear", **options)


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
