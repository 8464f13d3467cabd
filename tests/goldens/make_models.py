"""Makes tests/goldens/models/*.safetensors: small generators with random weights, and PyTorch's answer for each.

    python tests/goldens/make_models.py [NAME ...]

Needs torch, numpy and safetensors; seeded by each generator's name. One function an architecture, which answers
(state dict, input, output).
"""

import sys
import zlib
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import save_file

ROOT = Path(__file__).resolve().parent
sys.path.insert(0, str(ROOT.parent.parent / "weights" / "recipe"))

GENERATORS = {}


def generator(name, **options):
    """Registers a function as the maker of one golden."""

    def register(function):
        GENERATORS[name] = lambda: function(**options)
        return function

    return register


def randomise(module, scale=1.0):
    """Draws every weight anew: fresh networks often start with zeros, which would hide mistakes."""
    for name, value in sorted(module.state_dict().items()):
        if value.is_floating_point():
            fan = max(value[0].numel(), 1) if value.dim() > 1 else 1
            noise = torch.randn_like(value) * scale * (fan**-0.5 if value.dim() > 1 else 0.1)
            base = 1.0 if name.endswith(("norm.weight", "running_var")) else 0.0
            value.copy_((noise + base).abs() if name.endswith("running_var") else noise + base)
    return module.eval()


def answer(module, *shape, double=True):
    """The module's state, a random input of `shape` and the output, computed in f64 where the module allows it."""
    x = torch.rand(*shape)
    state = {name: value.clone().contiguous() for name, value in module.state_dict().items()}
    y = module.double()(x.double()) if double else module(x)
    return state, x, y.float()


@generator("sonolume", channels=(6, 8, 12), blocks=(1, 2), pairs=2, heads=3, window=4, head=(5, 6), size=(45, 71))
@generator("sonolume-flat", channels=(6, 10), blocks=(1,), pairs=1, heads=2, window=2, head=(4, 10), size=(1, 9))
def sonolume(size, **options):
    from model import Sonolume

    # Its norm computes in f32 whatever the weights are.
    return answer(randomise(Sonolume(**options)), 1, 1, *size, double=False)


@generator("mimicknet", kernel=(3, 3), levels=4, size=(48, 32))
@generator("mimicknet-7x3", kernel=(7, 3), levels=2, size=(37, 22))
def mimicknet(kernel, levels, size, width=4):
    """Keras layer names in the order of execution; sizes are padded by reflection to multiples of 2^levels."""
    state, counts = {}, {"conv2d": 0, "conv2d_transpose": 0}

    def layer(kind, *shape):
        index = counts[kind]
        counts[kind] += 1
        name = kind if index == 0 else f"{kind}_{index}"
        inputs, outputs = (shape[0], shape[1]) if kind == "conv2d_transpose" else (shape[1], shape[0])
        state[f"{name}.weight"] = torch.randn(*shape) * (inputs * shape[2] * shape[3]) ** -0.5
        state[f"{name}.bias"] = torch.randn(outputs) * 0.1
        return state[f"{name}.weight"].double(), state[f"{name}.bias"].double()

    def block(x, function):
        for _ in range(2):
            weight, bias = layer("conv2d", width, x.shape[1], *kernel)
            x = function(F.conv2d(x, weight, bias, padding=(kernel[0] // 2, kernel[1] // 2)))
        return x

    image = torch.rand(1, 1, *size)
    height, width_ = size
    x = F.pad(image.double(), (0, -width_ % 2**levels, 0, -height % 2**levels), mode="reflect")
    skips = []
    for _ in range(levels):
        x = block(x, lambda t: F.leaky_relu(t, 0.2))
        skips.append(x)
        x = F.max_pool2d(x, 2)
    x = block(x, lambda t: F.leaky_relu(t, 0.2))
    for skip in reversed(skips):
        x = F.conv_transpose2d(x, *layer("conv2d_transpose", width, width, 2, 2), stride=2)
        x = block(torch.cat([x, skip], 1), F.relu)
    x = F.conv2d(x, *layer("conv2d", 1, width, 1, 1))
    return state, image, x[..., :height, :width_].float()


def main():
    for name in sys.argv[1:] or GENERATORS:
        torch.manual_seed(zlib.crc32(name.encode()))
        with torch.no_grad():
            state, x, y = GENERATORS[name]()
        path = ROOT / "models" / f"{name}.safetensors"
        path.parent.mkdir(exist_ok=True)
        save_file(state, path)
        save_file({"input": x.contiguous(), "output": y.contiguous()}, path.with_suffix(".reference.safetensors"))
        print(name, sum(value.numel() for value in state.values()), "parameters", list(x.shape), "->", list(y.shape))


if __name__ == "__main__":
    main()
