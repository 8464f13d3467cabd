"""Makes tests/goldens/models/*.safetensors: small generators with random weights, and PyTorch's answer for each.

    python tests/goldens/make_models.py [NAME ...]

Needs torch, numpy and safetensors, for public implementations also spandrel, spandrel_extra_arches and timm; seeded by each generator's name. One function an architecture, which answers
(state dict, input, output).
"""

import sys
import zlib
from pathlib import Path

import numpy as np
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


def perturb(module):
    """Draws the weights of a public implementation anew, about 1 where it starts with ones; its other buffers stay."""
    values = dict(module.named_parameters())
    values |= {name: value for name, value in module.named_buffers() if name.endswith(("running_mean", "running_var"))}
    for name, value in sorted(values.items()):
        fan = max(value[0].numel(), 1) if value.dim() > 1 else 1
        noise = torch.randn_like(value) * (fan**-0.5 if value.dim() > 1 else 0.1)
        value.copy_(value + noise if value.dim() == 1 or fan == 1 else noise)
    return module.eval()


def padded_answer(module, multiple, *shape):
    """As `answer`, the image padded by reflection, however small it is, and the result cropped."""
    x = torch.rand(*shape)
    state = {name: value.clone().contiguous() for name, value in module.state_dict().items()}
    sides = [(0, 0), (0, 0), *((0, -size % multiple) for size in shape[2:])]
    padded = torch.from_numpy(np.pad(x.double().numpy(), sides, mode="reflect"))
    return state, x, module.double()(padded)[..., : shape[2], : shape[3]].float()


@generator("nafnet", channels=3, encoders=[1, 2], middle=1, decoders=[1, 1], size=(21, 30))
@generator("nafnet-gray", channels=1, encoders=[1, 0, 1], middle=0, decoders=[0, 1, 2], size=(13, 8))
def nafnet(channels, encoders, middle, decoders, size):
    from spandrel.architectures.NAFNet.__arch.NAFNet_arch import NAFNet

    net = NAFNet(
        img_channel=channels, width=6, middle_blk_num=middle, enc_blk_nums=encoders, dec_blk_nums=decoders
    )
    return answer(perturb(net), 1, channels, *size)


@generator("swinir-classical-x2", upscale=2, upsampler="pixelshuffle", size=(21, 27))
@generator("swinir-classical-x3", channels=1, upscale=3, upsampler="pixelshuffle", image=8, size=(8, 17))
@generator("swinir-light-x4", channels=1, upscale=4, upsampler="pixelshuffledirect", window=4, size=(11, 15))
@generator("swinir-real-x4", upscale=4, upsampler="nearest+conv", connection="3conv", depths=[1, 2], size=(10, 13))
@generator("swinir-jpeg", window=7, img_range=255.0, depths=[3], size=(20, 36))
def swinir(size, channels=3, window=8, depths=(2,), connection="1conv", image=None, upscale=1, **options):
    from spandrel.architectures.SwinIR.__arch.SwinIR import SwinIR, Upsample

    width, features = 12, 6
    net = SwinIR(
        img_size=image or 2 * window,
        in_chans=channels,
        embed_dim=width,
        depths=list(depths),
        num_heads=[2, 3][: len(depths)],
        window_size=window,
        mlp_ratio=2.0,
        upscale=upscale,
        resi_connection=connection,
        **options,
    )
    # Its heads have 64 channels, too many for a small file.
    if hasattr(net, "conv_before_upsample"):
        net.conv_before_upsample[0] = torch.nn.Conv2d(width, features, 3, 1, 1)
        net.conv_last = torch.nn.Conv2d(features, channels, 3, 1, 1)
        if options["upsampler"] == "pixelshuffle":
            net.upsample = Upsample(upscale, features)
        for name in {"conv_up1", "conv_up2", "conv_hr"} & {name for name, _ in net.named_children()}:
            setattr(net, name, torch.nn.Conv2d(features, features, 3, 1, 1))
    return answer(perturb(net), 1, channels, *size)


@generator("restormer", size=(13, 21))
@generator("restormer-bias-free", channels=1, LayerNorm_type="BiasFree", bias=True, num_blocks=[2, 1, 1, 1], size=(16, 9))
@generator("restormer-dual-pixel", channels=6, out_channels=3, dual_pixel_task=True, size=(11, 19))
def restormer(size, channels=3, out_channels=None, **options):
    from spandrel_extra_arches.architectures.Restormer.__arch.restormer_arch import Restormer

    defaults = {"num_blocks": [1, 1, 1, 1], "num_refinement_blocks": 1, "heads": [1, 2, 2, 4], "dim": 4}
    net = Restormer(inp_channels=channels, out_channels=out_channels or channels, **(defaults | options))
    return padded_answer(perturb(net), 8, 1, channels, *size)


class AttentionUNet(torch.nn.Module):
    """Oktay et al., 2018; names as in the PyTorch code that most people use."""

    def __init__(self, channels, widths, attention):
        super().__init__()
        self.levels, self.attention = len(widths), attention
        double = lambda i, o: self.part(conv=torch.nn.Sequential(*self.layer(i, o, 3), *self.layer(o, o, 3)))
        for level, (i, o) in enumerate(zip([channels, *widths], widths), 1):
            self.add_module(f"Conv{level}", double(i, o))
        for level in range(2, self.levels + 1):
            o, i = widths[level - 2 : level]
            self.add_module(f"Up{level}", self.part(up=torch.nn.Sequential(torch.nn.Upsample(scale_factor=2), *self.layer(i, o, 3))))
            if attention:
                between = max(o // 2, 1)
                gate = {"W_g": self.layer(o, between, 1)[:2], "W_x": self.layer(o, between, 1)[:2]}
                gate["psi"] = [*self.layer(between, 1, 1)[:2], torch.nn.Sigmoid()]
                self.add_module(f"Att{level}", self.part(**{k: torch.nn.Sequential(*v) for k, v in gate.items()}))
            self.add_module(f"Up_conv{level}", double(2 * o, o))
        self.Conv_1x1 = torch.nn.Conv2d(widths[0], channels, 1)

    @staticmethod
    def layer(i, o, kernel):
        return [torch.nn.Conv2d(i, o, kernel, padding=kernel // 2), torch.nn.BatchNorm2d(o), torch.nn.ReLU()]

    @staticmethod
    def part(**children):
        part = torch.nn.Module()
        for name, child in children.items():
            part.add_module(name, child)
        return part

    def forward(self, x):
        module = lambda name, level: getattr(self, f"{name}{level}")
        x = self.Conv1.conv(x)
        skips = []
        for level in range(2, self.levels + 1):
            skips.append(x)
            x = module("Conv", level).conv(F.max_pool2d(x, 2))
        for level in range(self.levels, 1, -1):
            skip, x = skips.pop(), module("Up", level).up(x)
            if self.attention:
                gate = module("Att", level)
                skip = skip * gate.psi(F.relu(gate.W_g(x) + gate.W_x(skip)))
            x = module("Up_conv", level).conv(torch.cat([skip, x], 1))
        return self.Conv_1x1(x)


@generator("attention-unet", channels=1, widths=[4, 5, 6, 7, 8], attention=True, size=(37, 50))
@generator("attention-unet-plain", channels=3, widths=[3, 6, 9], attention=False, size=(11, 18))
def attention_unet(channels, widths, attention, size):
    return padded_answer(perturb(AttentionUNet(channels, widths, attention)), 2 ** (len(widths) - 1), 1, channels, *size)


class SwinV2UNet(torch.nn.Module):
    """timm's encoder and a convolutional decoder; `skips` are the channels that stages concatenate."""

    def __init__(self, encoder, channels, widths, skips, affine):
        super().__init__()
        self.encoder, self.skips = encoder, skips
        self.decoder = torch.nn.ModuleList()
        inputs = encoder.num_features
        for width, skip in zip(widths, skips):
            stage = torch.nn.Module()
            stage.conv1 = torch.nn.Conv2d(inputs + skip, width, 3, padding=1, bias=affine)
            stage.norm1 = torch.nn.InstanceNorm2d(width, affine=affine)
            stage.conv2 = torch.nn.Conv2d(width, width, 3, padding=1, bias=affine)
            stage.norm2 = torch.nn.InstanceNorm2d(width, affine=affine)
            self.decoder.append(stage)
            inputs = width
        self.head = torch.nn.Conv2d(inputs, channels, 1)

    def forward(self, image):
        features = {image.shape[2]: image}
        x = self.encoder.patch_embed(image)
        for layer in self.encoder.layers:
            x = layer(x)
            features[x.shape[1]] = x.permute(0, 3, 1, 2)
        x = self.encoder.norm(x).permute(0, 3, 1, 2)
        for stage, skip in zip(self.decoder, self.skips):
            x = F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False)
            if skip:
                x = torch.cat([x, features[x.shape[2]]], 1)
            for conv, norm in ((stage.conv1, stage.norm1), (stage.conv2, stage.norm2)):
                x = F.leaky_relu(norm(conv(x)), 0.01)
        return self.head(x)


@generator("swin-v2-unet", channels=1, skips=[8, 0, 1], affine=True, size=(45, 38))
@generator(
    "swin-v2-unet-buffers", channels=3, skips=[16, 8, 0, 0], affine=False, buffers=True, size=(21, 70),
    img_size=64, window_size=4, patch_size=4, depths=(1, 2, 2), num_heads=(1, 2, 4), pretrained_window_sizes=(3, 3, 2),
)
def swin_v2_unet(channels, skips, affine, size, buffers=False, **options):
    from timm.models.swin_transformer_v2 import SwinTransformerV2

    defaults = {"img_size": 256, "window_size": 8, "patch_size": 4, "depths": (2, 2), "num_heads": (2, 2)}
    options = defaults | options
    encoder = SwinTransformerV2(
        in_chans=channels, embed_dim=8, mlp_ratio=2.0, num_classes=0, strict_img_size=False, **options
    )
    net = perturb(SwinV2UNet(encoder, channels, [6, 5, 4, 3][: len(skips)], skips, affine))
    # Levels of the configured image that are one window.
    masked = {f"encoder.{name}" for name, part in encoder.named_modules() if any(getattr(part, "shift_size", [0]))}
    for part in encoder.modules():
        part.dynamic_mask = True
    levels = range(len(options["depths"]))
    windows = [min(options["window_size"], options["img_size"] // (options["patch_size"] << level)) for level in levels]
    multiple = np.lcm.reduce([options["patch_size"] * window << level for level, window in enumerate(windows)])
    extra = {}
    if buffers:
        # As the reference code stores them: its files have these buffers, and halve at the end of a level.
        extra = {name: value.clone() for name, value in net.named_buffers() if ".relative_" in name}
        extra |= {f"{name}.attn_mask": torch.zeros(1) for name in masked}
    state, x, y = padded_answer(net, int(multiple), 1, channels, *size)
    state |= extra
    if buffers:
        for name in [name for name in state if ".downsample." in name]:
            level = int(name.split(".")[2])
            state[name.replace(f"layers.{level}", f"layers.{level - 1}")] = state.pop(name)
    return state, x, y


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
