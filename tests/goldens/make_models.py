"""Makes tests/goldens/models/*.safetensors: small generators with random weights, and PyTorch's answer for each.

    python tests/goldens/make_models.py [NAME ...]

Needs torch, numpy and safetensors, for public implementations also spandrel, spandrel_extra_arches, timm and monai; seeded
by each generator's name. One function an architecture, which answers (state dict, input, output), and the file's metadata if
it matters.
"""

import sys
import zlib
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn
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


def randomise(module, scale=1.0, norms=False):
    """Draws every weight anew: fresh networks often start with zeros, which would hide mistakes.

    `norms`: every one-dimensional weight is a norm's, and lies around one.
    """
    for name, value in sorted(module.state_dict().items()):
        if value.is_floating_point():
            fan = max(value[0].numel(), 1) if value.dim() > 1 else 1
            noise = torch.randn_like(value) * scale * (fan**-0.5 if value.dim() > 1 else 0.1)
            is_norm = name.endswith(("norm.weight", "running_var")) or (norms and value.dim() == 1 and name.endswith("weight"))
            base = 1.0 if is_norm else 0.0
            value.copy_((noise + base).abs() if name.endswith("running_var") else noise + base)
    return module.eval()


def answer(module, *shape, double=True):
    """The module's state, a random input of `shape` and the output, computed in f64 where the module allows it."""
    x = torch.rand(*shape)
    state = {name: value.clone().contiguous() for name, value in module.state_dict().items()}
    y = module.double()(x.double()) if double else module(x)
    return state, x, y.float()


@generator("sonolume", channels=(6, 8, 12), blocks=(1, 2), pairs=2, heads=3, window=4, head=(5, 6), size=(45, 71))
@generator("sonolume-gated", channels=(6, 8), blocks=(1,), pairs=1, heads=2, window=2, head=(4, 6), gate="box", size=(21, 30))
@generator("sonolume-wide-gate", channels=(6, 8), blocks=(1,), pairs=1, heads=2, window=2, head=(4, 6), gate="wide", size=(26, 23))
@generator("sonolume-context", channels=(4, 6), blocks=(1,), pairs=3, heads=2, window=2, head=(3, 4), context=True, size=(37, 22))
@generator("sonolume-flat", channels=(6, 10), blocks=(1,), pairs=1, heads=2, window=2, head=(4, 10), size=(1, 9))
def sonolume(size, **options):
    from model import Sonolume

    # Its norm computes in f32 whatever the weights are.
    return answer(randomise(Sonolume(**options)), 1, 1, *size, double=False)


@generator("mimicknet", kernel=(3, 3), levels=4, size=(48, 32))
@generator("mimicknet-odd", kernel=(3, 3), levels=2, size=(21, 15), first=19)
@generator("mimicknet-7x3", kernel=(7, 3), levels=2, size=(37, 22), slope=0.0)
@generator("mimicknet-first", kernel=(7, 3), levels=2, size=(18, 13), slope=0.0, stem=True)
def mimicknet(kernel, levels, size, width=4, slope=0.2, stem=False, first=0):
    """Keras layer names in the order of execution; sizes are padded by reflection to multiples of 2^levels.

    `stem` is the first of the published scripts: one more convolution, and one 1x1 convolution for each level that is
    made, counted and not used. `first` is the number of the first layer.
    """
    state, counts = {}, {"conv2d": first, "conv2d_transpose": first}

    def layer(kind, *shape):
        index = counts[kind]
        counts[kind] += 1
        name = kind if index == 0 else f"{kind}_{index}"
        inputs, outputs = (shape[0], shape[1]) if kind == "conv2d_transpose" else (shape[1], shape[0])
        state[f"{name}.weight"] = torch.randn(*shape) * (inputs * shape[2] * shape[3]) ** -0.5
        state[f"{name}.bias"] = torch.randn(outputs) * 0.1
        return state[f"{name}.weight"].double(), state[f"{name}.bias"].double()

    def block(x, function, convolutions=2):
        counts["conv2d"] += stem and convolutions == 2
        for _ in range(convolutions):
            weight, bias = layer("conv2d", width, x.shape[1], *kernel)
            x = function(F.conv2d(x, weight, bias, padding=(kernel[0] // 2, kernel[1] // 2)))
        return x

    def down(x):
        return F.leaky_relu(x, slope)

    image = torch.rand(1, 1, *size)
    height, width_ = size
    x = F.pad(image.double(), (0, -width_ % 2**levels, 0, -height % 2**levels), mode="reflect")
    x = block(x, down, int(stem))
    skips = []
    for _ in range(levels):
        x = block(x, down)
        skips.append(x)
        x = F.max_pool2d(x, 2)
    x = block(x, down)
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
@generator("swinir-jpeg-unit", channels=1, window=7, depths=[1], size=(14, 9), notes={"image_range": "1"})
@generator("swinir-unshuffle-x2", upscale=4, upsampler="nearest+conv", start_unshuffle=2, window=4, depths=[1], size=(21, 10))
@generator("swinir-unshuffle-x1", channels=1, upscale=4, upsampler="pixelshuffle", start_unshuffle=4, window=2, depths=[1], size=(13, 24))
@generator("swinir-unshuffle-direct", upscale=4, upsampler="pixelshuffledirect", start_unshuffle=2, window=4, depths=[1], size=(8, 19))
def swinir(size, notes=None, channels=3, window=8, depths=(2,), connection="1conv", image=None, upscale=1, **options):
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
    perturb(net)
    unshuffle = options.get("start_unshuffle", 1)
    if unshuffle == 1:
        result = answer(net, 1, channels, *size)
        return (*result, notes) if notes else result
    # It pads to multiples of the window before it unshuffles, and crops as if it had not: both are done right here.
    state, x, _ = answer(net, 1, channels, *(window * unshuffle * 2,) * 2)
    x = torch.rand(1, channels, *size)
    padded = [(0, 0), (0, 0), *((0, -side % (window * unshuffle)) for side in size)]
    y = net(torch.from_numpy(np.pad(x.double().numpy(), padded, mode="reflect"))).float()
    scale = upscale // unshuffle
    # Published generators have the unshuffle as a module before the first convolution.
    if channels == 3:
        state = {name.replace("conv_first.", "conv_first.1."): value for name, value in state.items()}
    return state, x, y[..., : size[0] * scale, : size[1] * scale]


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
@generator("attention-unet-other-name", channels=1, widths=[4, 5], attention=True, last="Conv", size=(7, 12))
def attention_unet(channels, widths, attention, size, last="Conv_1x1"):
    net = perturb(AttentionUNet(channels, widths, attention))
    state, x, y = padded_answer(net, 2 ** (len(widths) - 1), 1, channels, *size)
    return {name.replace("Conv_1x1", last): value for name, value in state.items()}, x, y


@generator("attention-unet-monai", channels=1, widths=[4, 6, 8], size=(21, 30))
@generator("attention-unet-monai-kernels", channels=3, widths=[3, 5], kernel_size=5, up_kernel_size=5, size=(13, 18))
def attention_unet_monai(channels, widths, size, **options):
    from monai.networks.nets import AttentionUnet

    strides = [2] * (len(widths) - 1)
    net = AttentionUnet(2, in_channels=channels, out_channels=channels, channels=widths, strides=strides, **options)
    return padded_answer(perturb(net), 2 ** len(strides), 1, channels, *size)


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


@generator("swin-v2-unet", channels=1, skips=[8, 0, 0, 0, 1], affine=True, patch_size=16, size=(45, 38))
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
    net = perturb(SwinV2UNet(encoder, channels, [6, 5, 4, 3, 3][: len(skips)], skips, affine))
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




def norm_layer(kind, channels):
    """`instance`, `affine` (instance), `tracked` (instance with running statistics), `batch` or `none`."""
    return {
        "instance": lambda: nn.InstanceNorm2d(channels),
        "affine": lambda: nn.InstanceNorm2d(channels, affine=True),
        "tracked": lambda: nn.InstanceNorm2d(channels, track_running_stats=True),
        "affine-tracked": lambda: nn.InstanceNorm2d(channels, affine=True, track_running_stats=True),
        "batch": lambda: nn.BatchNorm2d(channels),
        "none": nn.Identity,
    }[kind]()


def signed(module, channels, size, multiple=1):
    """As `answer`, for values from -1 to 1; sizes padded by reflection to `multiple`, and the result cropped."""
    x = torch.rand(1, channels, *size) * 2 - 1
    state = {name: value.clone().contiguous() for name, value in module.state_dict().items()}
    height, width = size
    padded = F.pad(x, (0, -width % multiple, 0, -height % multiple), mode="reflect")
    return state, x, module.double()(padded.double())[..., :height, :width].float()


class Residual(nn.Module):
    """A block whose `conv_block` is added to its input."""

    def __init__(self, *modules):
        super().__init__()
        self.conv_block = nn.Sequential(*modules)

    def forward(self, x):
        return x + self.conv_block(x)


@generator("resnet-instance", size=(22, 15))
@generator("resnet-zero", norm="instance", border="zero", blocks=2, channels=1, size=(20, 12))
@generator("resnet-zero-dropout", norm="affine", border="zero", dropout=True, size=(17, 20))
@generator("resnet-affine", norm="affine", dropout=True, blocks=9, channels=1, size=(16, 28))
@generator("resnet-tracked", norm="tracked", size=(23, 18))
@generator("resnet-affine-tracked", norm="affine-tracked", blocks=1, size=(12, 16))
@generator("resnet-batch", norm="batch", blocks=2, size=(22, 17))
@generator("resnet-none", norm="none", blocks=2, channels=1, size=(12, 17))
@generator("resnet-old", norm="instance", old=True, size=(20, 16))
@generator("resnet-replicate", border="replicate", blocks=1, size=(18, 21))
@generator("resnet-instance-unbiased", bias=False, width=2, blocks=1, size=(13, 18), notes={"norm": "instance"})
@generator("resnet-none-biased", norm="none", bias=True, width=2, blocks=1, size=(10, 15), notes={"norm": "none"})
@generator("resnet-tracked-uncounted", norm="tracked", width=2, blocks=1, counted=False, size=(11, 16), notes={"running_statistics": "used"})
@generator("resnet-flat", width=2, blocks=0, size=(14, 11))
def resnet(norm="instance", border="reflect", dropout=False, blocks=3, channels=3, width=4, size=(16, 16), old=False, bias=None, counted=True, notes=None):
    """The reference repository's `ResnetGenerator`; its metadata if that is needed. `old`: statistics that PyTorch 0.3 saved and nobody used."""
    bias = norm not in ("batch", "none") if bias is None else bias

    def norm_relu(count):
        return [norm_layer(norm, count), nn.ReLU()]

    def padded(count):
        pad = {"reflect": [nn.ReflectionPad2d(1)], "replicate": [nn.ReplicationPad2d(1)], "zero": []}[border]
        return [*pad, nn.Conv2d(count, count, 3, padding=0 if pad else 1, bias=bias)]

    modules = [nn.ReflectionPad2d(3), nn.Conv2d(channels, width, 7, bias=bias), *norm_relu(width)]
    for count in (width, 2 * width):
        modules += [nn.Conv2d(count, 2 * count, 3, stride=2, padding=1, bias=bias), *norm_relu(2 * count)]
    count = 4 * width
    drop = [nn.Dropout(0.5)] if dropout else []
    for _ in range(blocks):
        modules.append(Residual(*padded(count), *norm_relu(count), *drop, *padded(count), norm_layer(norm, count)))
    for count in (4 * width, 2 * width):
        up = nn.ConvTranspose2d(count, count // 2, 3, stride=2, padding=1, output_padding=1, bias=bias)
        modules += [up, *norm_relu(count // 2)]
    modules += [nn.ReflectionPad2d(3), nn.Conv2d(width, channels, 7), nn.Tanh()]
    module = randomise(nn.ModuleDict({"model": nn.Sequential(*modules)}), norms=True)["model"]
    state, x, y = signed(module, channels, size)
    state = {f"model.{name}": value for name, value in state.items()}
    if old:
        counts = {name[:-5]: value for name, value in state.items() if name.endswith(".bias")}
        for name in list(counts)[:-1]:
            head, index = name.rsplit(".", 1)
            after = f"{head}.{int(index) + 1}"
            state[f"{after}.running_mean"] = torch.randn_like(counts[name])
            state[f"{after}.running_var"] = torch.rand_like(counts[name]) + 0.5
    if not counted:
        state = {name: value for name, value in state.items() if not name.endswith("num_batches_tracked")}
    notes = {"padding_type": border} if border == "replicate" else notes
    return (state, x, y, notes) if notes else (state, x, y)


class UNetLevel(nn.Module):
    """A level of the reference's U-Net: LeakyReLU in place, so that the skip has it too."""

    def __init__(self, *modules, outermost=False):
        super().__init__()
        self.model = nn.Sequential(*modules)
        self.outermost = outermost

    def forward(self, x):
        return self.model(x) if self.outermost else torch.cat([x, self.model(x)], 1)


@generator("unet-batch", size=(44, 37))
@generator("unet-instance", norm="instance", levels=5, channels=1, size=(64, 96))
@generator("unet-instance-tracked", norm="tracked", levels=3, size=(24, 17))
@generator("unet-none", norm="none", levels=3, size=(9, 16))
@generator("unet-256", norm="batch", levels=8, width=1, channels=1, size=(256, 256))
@generator("unet-instance-unbiased", norm="instance", bias=False, levels=3, width=2, size=(16, 21), notes={"norm": "instance"})
@generator("unet-none-biased", norm="none", bias=True, levels=3, width=2, channels=1, size=(8, 19), notes={"norm": "none"})
def unet(norm="batch", levels=4, channels=3, width=4, size=(32, 32), bias=None, notes=None):
    """The reference repository's `UnetGenerator`, built from the inside."""
    bias = norm not in ("batch", "none") if bias is None else bias
    widths = [width * 2 ** min(level, 3) for level in range(levels)]

    def down(a, b):
        return nn.Conv2d(a, b, 4, stride=2, padding=1, bias=bias)

    def up(a, b, bias=bias):
        return nn.ConvTranspose2d(a, b, 4, stride=2, padding=1, bias=bias)

    a, b = widths[-2:]
    module = UNetLevel(nn.LeakyReLU(0.2, True), down(a, b), nn.ReLU(True), up(b, a), norm_layer(norm, a))
    for level in range(levels - 2, 0, -1):
        a, b = widths[level - 1 : level + 1]
        head = [nn.LeakyReLU(0.2, True), down(a, b), norm_layer(norm, b)]
        # As the reference: dropout in the levels of full width, which counts as a module.
        drop = [nn.Dropout(0.5)] if level >= 3 else []
        module = UNetLevel(*head, module, nn.ReLU(True), up(2 * b, a), norm_layer(norm, a), *drop)
    a = widths[0]
    module = UNetLevel(down(channels, a), module, nn.ReLU(True), up(2 * a, channels, True), nn.Tanh(), outermost=True)
    module = randomise(nn.ModuleDict({"model": module}), norms=True)["model"]
    state, x, y = signed(module, channels, size, 2**levels)
    state = {f"model.{name}": value for name, value in state.items()}
    return (state, x, y, notes) if notes else (state, x, y)


@generator("compact-x4", upscale=4, size=(9, 14))
@generator("compact-x2", upscale=2, num_in_ch=1, num_out_ch=1, size=(12, 7))
@generator("compact-x1-relu", upscale=1, act_type="relu", size=(11, 8))
@generator("compact-x3", upscale=3, num_conv=3, size=(7, 10))
@generator("compact-colouring", upscale=2, num_in_ch=1, num_out_ch=3, num_conv=1, size=(6, 9))
@generator("compact-leaky", upscale=2, act_type="leakyrelu", size=(5, 6))
def compact(size, **options):
    from spandrel.architectures.Compact import Compact

    options = {"num_in_ch": 3, "num_out_ch": 3, "num_feat": 6, "num_conv": 2, **options}
    result = answer(randomise(Compact(**options)), 1, options["num_in_ch"], *size)
    return (*result, {"activation": "leakyrelu"}) if options.get("act_type") == "leakyrelu" else result


def rename_rrdb(state, names):
    """The old names of spandrel's module as one of the two newer generations has them."""
    import re

    blocks = max(int(name.split(".")[3]) for name in state if name.startswith("model.1.sub."))
    last = max(int(name.split(".")[1]) for name in state)
    body = names == "body"
    renamed = {}
    for name, value in state.items():
        parts = name.split(".")
        if match := re.fullmatch(r"model\.1\.sub\.(\d+)\.RDB(\d)\.conv(\d)\.0\.(\w+)", name):
            block, dense, conv, kind = match.groups()
            path = f"body.{block}.rdb{dense}" if body else f"RRDB_trunk.{block}.RDB{dense}"
            renamed[f"{path}.conv{conv}.{kind}"] = value
            continue
        index = int(parts[1])
        if index == 0:
            new = "conv_first"
        elif index == 1:
            assert int(parts[3]) == blocks
            new = "conv_body" if body else "trunk_conv"
        elif index == last:
            new = "conv_last"
        elif index == last - 2:
            new = "conv_hr" if body else "HRconv"
        else:
            new = f"conv_up{index // 3}" if body else f"upconv{index // 3}"
        renamed[f"{new}.{parts[-1]}"] = value
    return renamed


@generator("rrdbnet-x4", names="body", scale=4, size=(9, 7))
@generator("rrdbnet-x2", names="body", scale=4, shuffle=2, size=(9, 14))
@generator("rrdbnet-x1", names="body", scale=4, shuffle=4, channels=1, size=(18, 13))
@generator("rrdbnet-trunk-x4", names="trunk", scale=4, channels=1, size=(5, 8))
@generator("rrdbnet-trunk-x2", names="trunk", scale=2, size=(6, 7))
@generator("rrdbnet-old-x4", names="old", scale=4, size=(6, 5))
@generator("rrdbnet-old-plus", names="old", scale=2, plus=True, size=(7, 6))
@generator("rrdbnet-old-x1", names="old", scale=1, blocks=2, size=(8, 9))
@generator("rrdbnet-old-x3", names="old", scale=3, channels=1, size=(6, 7), notes={"enlargement": "3"})
@generator("rrdbnet-old-shuffle-x4", names="old", scale=4, channels=1, upsampler="pixel_shuffle", size=(5, 8))
@generator("rrdbnet-old-shuffle-x3", names="old", scale=3, channels=1, upsampler="pixel_shuffle", size=(7, 4))
def rrdbnet(names, scale, size, channels=3, shuffle=1, blocks=1, notes=None, **options):
    from spandrel.architectures.ESRGAN import ESRGAN
    from spandrel.architectures.ESRGAN.__arch import RRDB as implementation

    # Its dense blocks grow by 32 channels, whatever the width: less, to keep the files small.
    original = implementation.B.RRDB
    if original.__name__ == "RRDB":
        implementation.B.RRDB = lambda **options: original(**{**options, "gc": 5})
    inputs = channels * shuffle * shuffle
    factor = None if shuffle == 1 else shuffle
    module = ESRGAN(
        in_nc=inputs, out_nc=channels, num_filters=4, num_blocks=blocks, scale=scale, shuffle_factor=factor, **options
    )
    state, x, y = answer(randomise(module, 1.5), 1, channels, *size)
    result = (state if names == "old" else rename_rrdb(state, names)), x, y
    return (*result, notes) if notes else result


@generator("dncnn", act_mode="BR", size=(13, 10))
@generator("dncnn-color", act_mode="BR", in_nc=3, out_nc=3, nb=5, size=(8, 11))
@generator("dncnn-plain", act_mode="R", nb=8, size=(9, 12))
@generator("dncnn-instance", act_mode="IR", nb=4, size=(14, 9))
@generator("dncnn-level", act_mode="R", in_nc=2, mode="FDnCNN", size=(10, 13))
@generator("dncnn-leaky", act_mode="BL", size=(11, 8))
def dncnn(size, **options):
    from spandrel.architectures.DnCNN import DnCNN

    options = {"in_nc": 1, "out_nc": 1, "nc": 6, "nb": 4, **options}
    result = answer(randomise(DnCNN(**options), norms=True), 1, options["in_nc"], *size)
    return (*result, {"activation": "leakyrelu"}) if "L" in options["act_mode"] else result


class EarlierDnCNN(nn.Module):
    """The layout of the code before KAIR: the authors' (biased first convolution, its own epsilon) and others'."""

    def __init__(self, authors, width=6, body=2):
        super().__init__()
        modules = [nn.Conv2d(1, width, 3, padding=1, bias=authors), nn.ReLU()]
        for _ in range(body):
            norm = nn.BatchNorm2d(width, eps=1e-4 if authors else 1e-5)
            modules += [nn.Conv2d(width, width, 3, padding=1, bias=False), norm, nn.ReLU()]
        self.dncnn = nn.Sequential(*modules, nn.Conv2d(width, 1, 3, padding=1, bias=False))

    def forward(self, x):
        return x - self.dncnn(x)


@generator("dncnn-authors", authors=True, size=(12, 9))
@generator("dncnn-unbiased", authors=False, size=(7, 16))
def earlier_dncnn(authors, size):
    # Small variances, so that the epsilon counts.
    net = randomise(EarlierDnCNN(authors), norms=True)
    for name, value in net.state_dict().items():
        if name.endswith("running_var"):
            value.mul_(1e-2)
    return answer(net, 1, 1, *size)


class Usenhance(nn.Module):
    """Both kinds; the names and shapes are in `src/models/usenhance.rs`."""

    def __init__(self, side, channels, width, blocks, levels=2):
        super().__init__()

        def unit(conv, count):
            return nn.ModuleDict({"conv": conv, "norm": nn.InstanceNorm2d(count, affine=True)})

        def reflecting(a, b, size):
            return nn.Conv2d(a, b, size, padding=size // 2, padding_mode="reflect")

        widths = [width * 2**level for level in range(levels + 1)]
        deep = widths[-1]
        self.stem = unit(reflecting(channels, width, 7), width)
        self.down = nn.ModuleList(unit(nn.Conv2d(a, 2 * a, 3, stride=2, padding=1), 2 * a) for a in widths[:-1])
        if side:
            self.side = nn.ModuleDict({"conv": nn.Conv2d(deep, 3, 3, padding=1), "project": nn.Conv2d(3, deep, 1)})
        self.blocks = nn.ModuleList(
            nn.ModuleDict(
                {
                    "conv1": reflecting(deep, deep, 3),
                    "norm1": nn.InstanceNorm2d(deep, affine=True),
                    "conv2": reflecting(deep, deep, 3),
                    "norm2": nn.InstanceNorm2d(deep, affine=True),
                }
            )
            for _ in range(blocks)
        )
        make = (
            (lambda a: nn.ConvTranspose2d(a, a // 2, 3, stride=2, padding=1, output_padding=1))
            if side
            else (lambda a: nn.Conv2d(a, 2 * a, 3, padding=1))
        )
        self.up = nn.ModuleList(unit(make(a), a // 2) for a in reversed(widths[1:]))
        self.head = nn.ModuleDict({"conv": reflecting(width, channels, 7)})
        self.has_side = side

    def forward(self, x):
        x = F.relu(self.stem["norm"](self.stem["conv"](x)))
        skips = []
        for unit in self.down:
            skips.append(x)
            x = F.relu(unit["norm"](unit["conv"](x)))
        if self.has_side:
            x = x + self.side["project"](F.relu(self.side["conv"](x)).mean((2, 3), keepdim=True))
        for block in self.blocks:
            y = F.relu(block["norm1"](block["conv1"](x)))
            x = x + block["norm2"](block["conv2"](y))
        for unit in self.up:
            x = unit["conv"](x)
            x = F.relu(unit["norm"](x if self.has_side else F.pixel_shuffle(x, 2)))
            x = x + skips.pop() if self.has_side else x
        return torch.tanh(self.head["conv"](x))


@generator("usenhance-shuffle", side=False, channels=1, width=4, blocks=2, size=(21, 30))
@generator("usenhance-shuffle-color", side=False, channels=3, width=3, blocks=1, size=(12, 16))
@generator("usenhance-side", side=True, channels=1, width=4, blocks=2, size=(23, 18))
@generator("usenhance-side-deep", side=True, channels=3, width=3, blocks=1, levels=3, size=(40, 28))
def usenhance(size, **options):
    module = randomise(Usenhance(**options), norms=True)
    return signed(module, options["channels"], size, 2 ** options.get("levels", 2))


def main():
    for name in sys.argv[1:] or GENERATORS:
        torch.manual_seed(zlib.crc32(name.encode()))
        with torch.no_grad():
            state, x, y, *metadata = GENERATORS[name]()
        path = ROOT / "models" / f"{name}.safetensors"
        path.parent.mkdir(exist_ok=True)
        save_file(state, path, *metadata)
        save_file({"input": x.contiguous(), "output": y.contiguous()}, path.with_suffix(".reference.safetensors"))
        print(name, sum(value.numel() for value in state.values()), "parameters", list(x.shape), "->", list(y.shape))


if __name__ == "__main__":
    main()
