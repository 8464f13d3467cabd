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


def activate(case, x, slopes=None, field="act"):
    name, _, slope = case.text(field).partition(":")
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


def convolution(case, x):
    """(weight and bias, the sums) of a case's convolution."""
    channels = x.shape[1]
    kernel, groups, out = case.sizes("kernel"), case.integer("groups"), case.integer("out")
    weight = case.normal(out, channels // groups, *kernel, scale=(channels // groups * kernel[0] * kernel[1]) ** -0.5)
    params = [weight.float().double()] + ([case.normal(out)] if case.integer("bias") else [])
    y = F.conv2d(padded(case, x, case.sizes("pad", ",")), *params[:1], params[1] if len(params) > 1 else None, case.sizes("stride"), 0,
                 case.sizes("dilation"), groups)
    return params, y


def linear_map(case, x):
    """The same of a case's linear map."""
    out, channels = case.integer("out"), x.shape[1]
    weight = case.normal(out, channels, scale=channels**-0.5).float().double()
    params = [weight] + ([case.normal(out)] if case.integer("bias") else [])
    return params, F.linear(x.permute(0, 2, 3, 1), *params).permute(0, 3, 1, 2)


def finished(case, y):
    """(slopes, residual, the result) of sums with activation and residual."""
    slopes = slopes_of(case, y.shape[1])
    residual = [case.normal(*y.shape)] if case.text("residual") != "none" else []
    if case.text("residual") == "before":
        y = y + residual[0]
    y = activate(case, y, *slopes)
    if case.text("residual") == "after":
        y = y + residual[0]
    return slopes, residual, y


def conv2d(case):
    x = case.normal(1, *case.sizes("src"))
    params, y = convolution(case, x)
    slopes, residual, y = finished(case, y)
    return [x] + residual, params + slopes, y


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
    x = case.normal(1, *case.sizes("src"))
    params, y = linear_map(case, x)
    slopes, residual, y = finished(case, y)
    if case.integer("rank") == 4:
        params[0] = params[0][:, :, None, None]
    return [x] + residual, params + slopes, y


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
    below, right = case.sizes("pad")
    rows = torch.linspace(0, 1, height, dtype=torch.float64).reshape(1, 1, height, 1).expand(1, 1, height, width)
    y = F.pixel_unshuffle(F.pad(rows, (0, right, 0, below), mode="replicate"), case.integer("factor"))
    return [x, case.normal(1, 2, *y.shape[2:])], [], y


def upsample(case):
    x = case.normal(1, *case.sizes("src"))
    mode = case.text("mode")
    options = {} if mode == "nearest" else {"align_corners": mode == "corners"}
    scale = tuple(map(float, case.sizes("scale")))
    enlarged = lambda t: F.interpolate(t, scale_factor=scale, mode="nearest" if mode == "nearest" else "bilinear", **options)
    joined = case.integer("joined")
    y, second = enlarged(x).chunk(2, dim=1) if joined else (enlarged(x), None)
    if case.text("kind") == "none":
        return [x], [], y
    other = case.normal(*y.shape)
    y = combined(case, other, y)
    if case.text("then") == "none":
        return [x, other], [], y
    inputs = [x, other]
    if not joined:
        inputs.append(case.normal(*x.shape))
        second = enlarged(inputs[2])
    return inputs, [], combined(case, y, second, "then", "then_")


def combined(case, a, b, field="kind", prefix=""):
    if case.text(field) == "multiply":
        return a * b
    return case.real(f"{prefix}alpha") * a + case.real(f"{prefix}beta") * b


def normalized(case, x):
    """(weight and bias, the result) of a case's layer norm."""
    channels = x.shape[1]
    weight = case.normal(channels) if case.integer("weight") else None
    bias = case.normal(channels) if case.integer("bias" if "shift" not in case else "shift") else None
    if case.integer("center"):
        y = F.layer_norm(x.movedim(1, -1), (channels,), weight, bias, case.real("eps")).movedim(-1, 1)
    else:
        # Restormer's BiasFree_LayerNorm: the variance is about the mean, the result is not.
        y = x / torch.sqrt(x.var(1, keepdim=True, unbiased=False) + case.real("eps"))
        y = y * (1 if weight is None else weight.view(-1, 1, 1)) + (0 if bias is None else bias.view(-1, 1, 1))
    return [param for param in (weight, bias) if param is not None], y


def layer_norm(case):
    x = case.normal(1, *case.sizes("src")) + case.real("mean")
    params, y = normalized(case, x)
    return [x], params, y


def gated(case, x):
    """(slopes, the result) of a case's gate."""
    first, second = x.chunk(2, dim=1)
    slopes = slopes_of(case, first.shape[1])
    return slopes, activate(case, first, *slopes) * second


def fused_conv(case):
    x = case.normal(1, *case.sizes("src")) + case.real("mean")
    inputs, norm = [x], []
    if case.integer("join"):
        inputs.append(case.normal(1, case.integer("join"), *x.shape[2:]))
        x = torch.cat(inputs, 1)
    if case.integer("norm"):
        norm, x = normalized(case, x)
    params, y = (linear_map if case.integer("linear") else convolution)(case, x)
    if case.integer("gate"):
        slopes, y = gated(case, y)
        return inputs, params + norm + slopes, y
    if case.integer("shuffle") > 1:
        # Commutes with the activation; the residual is of the shuffled size.
        y = F.pixel_shuffle(y, case.integer("shuffle"))
    slopes, residual, y = finished(case, y)
    return inputs + residual, params + slopes + norm, y


def scale_shift(case):
    x = case.normal(1, *case.sizes("src"))
    channels = x.shape[1]
    mean, variance, weight, bias = case.normal(channels), case.uniform(channels, low=0.2, high=2), *case.normal(2, channels)
    scale = (weight / torch.sqrt(variance + 1e-5)).float().double()
    shift = (bias - mean * scale).float().double()
    slopes = slopes_of(case, channels)
    return [x], [scale, shift] + slopes, activate(case, F.batch_norm(x, mean, variance, weight, bias, eps=1e-5), *slopes)


def moments_of(x, groups, eps):
    parts = x.reshape(groups, -1)
    mean, rstd = parts.mean(1), 1 / torch.sqrt(parts.var(1, unbiased=False) + eps)
    each = torch.stack([mean, rstd], 1).repeat_interleave(x.shape[1] // groups, 0)
    return each.reshape(1, -1, 1, 1)


def moments(case):
    x = case.normal(1, *case.sizes("src")) + case.real("mean")
    # Channels differ, so that a mix-up shows.
    x = x * case.uniform(x.shape[1], 1, 1, low=0.5, high=2) + case.normal(x.shape[1], 1, 1)
    x = x.float().double()
    return [x], [], moments_of(x, case.integer("groups"), case.real("eps"))


def normalize(case):
    x = case.normal(1, *case.sizes("src"))
    channels, groups, eps = x.shape[1], case.integer("groups"), case.real("eps")
    x = (x * case.uniform(channels, 1, 1, low=0.5, high=2) + case.normal(channels, 1, 1)).float().double()
    weight = case.normal(channels) if case.integer("weight") else None
    bias = case.normal(channels) if case.integer("bias") else None
    if groups == channels:
        y = F.instance_norm(x, weight=weight, bias=bias, eps=eps)
    else:
        y = F.group_norm(x, groups, weight, bias, eps)
    slopes = slopes_of(case, channels)
    y = activate(case, y, *slopes)
    inputs = [x, moments_of(x, groups, eps)]
    if case.integer("residual"):
        inputs.append(case.normal(*x.shape))
        y = y + inputs[2]
    return inputs, [param for param in (weight, bias) if param is not None] + slopes, y


def binary(case):
    channels, height, width = case.sizes("src")
    a = case.normal(1, channels, height, width)
    shapes = {"none": (channels, height, width), "pooled": (channels, 1, 1), "channel": (1, height, width)}
    b = case.normal(1, *shapes[case.text("broadcast")])
    inputs = [a, b]
    y = combined(case, a, activate(case, b, field="second"))
    if case.text("then") != "none":
        inputs.append(case.normal(1, channels, height, width))
        y = combined(case, y, inputs[2], "then", "then_")
    slopes = slopes_of(case, channels)
    return inputs, slopes, activate(case, y, *slopes)


def gate(case):
    x = case.normal(1, *case.sizes("src"))
    slopes, y = gated(case, x)
    return [x], slopes, y


def restormer_attention(qkv, temperature, heads):
    """Restormer's MDTA between its projections: the attention matrix, and what it makes of the values."""
    _, channels, height, width = qkv.shape
    q, k, v = (part.reshape(heads, -1, height * width) for part in qkv.chunk(3, dim=1))
    q, k = F.normalize(q, dim=-1), F.normalize(k, dim=-1)
    attention = ((q @ k.transpose(-2, -1)) * temperature).softmax(dim=-1)
    return attention, (attention @ v).reshape(1, channels // 3, height, width)


def gram_layout(attention):
    """[heads, size, size] as `gram` stores it: vectors of one column of four rows."""
    rows = attention.reshape(-1, attention.shape[-1])
    rows = F.pad(rows, (0, 0, 0, -len(rows) % 4))
    return rows.reshape(-1, 4, rows.shape[-1]).transpose(1, 2).reshape(1, -1, 1, 1)


def gram(case):
    heads, size = case.integer("heads"), case.integer("size")
    qkv = case.normal(1, 3 * heads * size, *case.sizes("image"))
    if case.integer("flat"):
        qkv[:, 1] = 0
        qkv[:, heads * size + 2] = 0
    temperature = case.uniform(heads, 1, 1, low=0.5, high=4)
    return [qkv], [temperature], gram_layout(restormer_attention(qkv, temperature, heads)[0])


def channel_attention(case):
    heads, size = case.integer("heads"), case.integer("size")
    qkv = case.normal(1, 3 * heads * size, *case.sizes("image"))
    # Known to tests/suite/extents.rs, which puts the two operators together.
    temperature = torch.arange(1, heads + 1).double().reshape(heads, 1, 1)
    attention, y = restormer_attention(qkv, temperature, heads)
    return [qkv, gram_layout(attention)], [], y


def relative_position_index(window):
    """Swin's: for every pair of a window's pixels, the row of the bias table."""
    coords = torch.stack(torch.meshgrid(torch.arange(window[0]), torch.arange(window[1]), indexing="ij")).flatten(1)
    relative = (coords[:, :, None] - coords[:, None, :]).permute(1, 2, 0).contiguous()
    relative[:, :, 0] = (relative[:, :, 0] + window[0] - 1) * (2 * window[1] - 1)
    relative[:, :, 1] += window[1] - 1
    return relative.sum(-1)


def partition(x, window):
    """[1, h, w, c] to [windows, pixels of a window, c]."""
    _, height, width, channels = x.shape
    x = x.view(height // window[0], window[0], width // window[1], window[1], channels)
    return x.permute(0, 2, 1, 3, 4).reshape(-1, window[0] * window[1], channels)


def swin_mask(height, width, window, shift):
    """Swin's: -100 between the parts of a rolled image that are no neighbours."""
    image = torch.zeros(1, height, width, 1).double()
    slices = [(slice(0, -size), slice(-size, -by), slice(-by, None)) for size, by in zip(window, shift)]
    for index, (rows, columns) in enumerate((rows, columns) for rows in slices[0] for columns in slices[1]):
        image[:, rows, columns] = index
    regions = partition(image, window).squeeze(-1)
    return torch.where(regions[:, None] != regions[:, :, None], -100.0, 0.0).double()


def window_attention(case):
    heads, size, cosine = case.integer("heads"), case.integer("size"), case.integer("cosine")
    window, shift = case.sizes("window"), case.sizes("shift")
    height, width = case.sizes("image")
    qkv = case.normal(1, 3 * heads * size, height, width)
    if cosine:
        # Exact in f16: cosines times a scale of 100 magnify its rounding beyond what tells a right kernel from a wrong one.
        qkv = qkv.half().double()
    table = case.normal((2 * window[0] - 1) * (2 * window[1] - 1), heads)
    logit_scale = case.uniform(heads, 1, 1, low=1, high=4)
    if heads > 1:
        # Above ln 100, where Swin V2 cuts it.
        logit_scale[0] = 5

    def scores(q, k):
        if cosine:
            product = F.normalize(q, dim=-1) @ F.normalize(k, dim=-1).transpose(-2, -1)
            return product * torch.clamp(logit_scale, max=torch.log(torch.tensor(100.0)).item()).exp()
        return (q * size**-0.5) @ k.transpose(-2, -1)

    def split(x):
        return x.reshape(x.shape[0], x.shape[1], 3, heads, size).permute(2, 0, 3, 1, 4)

    x = qkv.movedim(1, -1)
    if case.integer("clip"):
        y, x_ = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
        y, x_ = y.flatten(), x_.flatten()
        ids = [(p + (s - b) % s) // s for p, s, b in ((y, window[0], shift[0]), (x_, window[1], shift[1]))]
        apart = (ids[0][:, None] != ids[0]) | (ids[1][:, None] != ids[1])
        rows = (y[:, None] - y + window[0] - 1).clamp(0, 2 * window[0] - 2)
        columns = (x_[:, None] - x_ + window[1] - 1).clamp(0, 2 * window[1] - 2)
        q, k, v = split(x.reshape(1, height * width, -1))
        attention = scores(q, k) + table[rows * (2 * window[1] - 1) + columns].permute(2, 0, 1)
        attention = attention.masked_fill(apart, -torch.inf)
        out = (attention.softmax(-1) @ v).transpose(1, 2).reshape(1, height, width, heads * size)
    else:
        x = torch.roll(x, (-shift[0], -shift[1]), (1, 2))
        q, k, v = split(partition(x, window))
        attention = scores(q, k) + table[relative_position_index(window)].permute(2, 0, 1)
        if any(shift):
            attention = attention + swin_mask(height, width, window, shift)[:, None]
        out = (attention.softmax(-1) @ v).transpose(1, 2)
        out = out.reshape(height // window[0], width // window[1], window[0], window[1], heads * size)
        out = out.permute(0, 2, 1, 3, 4).reshape(1, height, width, heads * size)
        out = torch.roll(out, (shift[0], shift[1]), (1, 2))
    return [qkv], [table] + ([logit_scale] if cosine else []), out.movedim(-1, 1)


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
