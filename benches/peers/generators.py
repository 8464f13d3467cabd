"""The compared generators in PyTorch, with the weights that every runtime gets.

`sonolume-s` has its published weights; the others have seeded random ones, since times do not depend on them. Each maker
answers a module for images of one size, and the tensors under the names that sonolume knows the architecture by.
"""

from __future__ import annotations

import sys
import zlib
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import nn

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "weights" / "recipe"))


def randomise(module: nn.Module, gain: float = 1.0) -> nn.Module:
    """Draws every parameter: matrices and kernels with the variance that keeps a signal's size, the rest near its start."""
    for _, value in sorted(module.named_parameters()):
        if value.dim() > 1:
            value.copy_(torch.randn_like(value) * gain * max(value[0].numel(), 1) ** -0.5)
        else:
            value.add_(torch.randn_like(value) * 0.02)
    return module.eval()


class Norm(nn.Module):
    """Layer norm over the channels of every pixel, in operators that every converter knows."""

    def __init__(self, norm: nn.LayerNorm, fused: bool):
        super().__init__()
        self.eps, self.fused, self.channels = norm.eps, fused, norm.weight.numel()
        self.norm = norm
        self.weight = nn.Parameter(norm.weight[:, None, None].detach().clone())
        self.bias = nn.Parameter(norm.bias[:, None, None].detach().clone())

    def forward(self, x):
        if self.fused:
            normal = F.layer_norm(x.permute(0, 2, 3, 1), (self.channels,), self.norm.weight, self.norm.bias, self.eps)
            return normal.permute(0, 3, 1, 2)
        x = x - x.mean(1, keepdim=True)
        return x / (x.pow(2).mean(1, keepdim=True) + self.eps).sqrt() * self.weight + self.bias


class Attention(nn.Module):
    """The recipe's window attention for one image of one size, in tensors of at most four axes beside the batch's."""

    def __init__(self, source, height: int, width: int, fused: bool):
        super().__init__()
        self.norm = Norm(source.norm, fused)
        self.qkv, self.proj = source.qkv, source.proj
        self.heads, self.window, self.shift = source.heads, source.window, source.shift
        self.size = height, width
        k = self.window
        bias = source.relative_position_bias_table[source.index.view(-1)].view(k * k, k * k, -1).permute(2, 0, 1)[None]
        if self.shift:
            bias = bias + source._mask(height, width, bias.device)[:, None]
        self.register_buffer("bias", bias.detach().clone()[None])

    def roll(self, t, shift):
        y, x = (shift % size for size in self.size)
        t = torch.cat([t[:, y:], t[:, :y]], 1)
        return torch.cat([t[:, :, x:], t[:, :, :x]], 2)

    def forward(self, x):
        c, k, heads, (h, w) = self.norm.channels, self.window, self.heads, self.size
        windows = (h // k) * (w // k)
        t = self.norm(x).permute(0, 2, 3, 1)
        if self.shift:
            t = self.roll(t, self.shift)
        t = t.reshape(1, h // k, k, w // k, k * c).permute(0, 1, 3, 2, 4).reshape(1, windows, k * k, c)
        q, key, v = self.qkv(t).chunk(3, -1)
        split = lambda t: t.reshape(1, windows, k * k, heads, c // heads).permute(0, 1, 3, 2, 4)
        q, key, v = split(q) * (c // heads) ** -0.5, split(key), split(v)
        scores = torch.matmul(q, key.transpose(-2, -1)) + self.bias
        t = torch.matmul(scores.softmax(-1), v).permute(0, 1, 3, 2, 4).reshape(1, windows, k * k, c)
        t = self.proj(t)
        t = t.reshape(1, h // k, w // k, k, k * c).permute(0, 1, 3, 2, 4).reshape(1, h, w, c)
        if self.shift:
            t = self.roll(t, -self.shift)
        return x + t.permute(0, 3, 1, 2)


class Fixed(nn.Module):
    """The recipe's generator for one size: the row coordinate and the padding are constants."""

    def __init__(self, net, height: int, width: int, fused: bool):
        super().__init__()
        self.height, self.width, self.padding = height, width, (0, -width % net.multiple, 0, -height % net.multiple)
        rows = torch.arange(height) / max(height - 1, 1)
        self.register_buffer("rows", rows[None, None, :, None].expand(1, 1, height, width).contiguous())
        size = [n + -n % net.multiple >> len(net.down) + 1 for n in (height, width)]
        for module in list(net.modules()):
            for name, child in list(module.named_children()):
                if type(child).__name__ == "WindowAttention":
                    setattr(module, name, Attention(child, *size, fused))
                elif isinstance(child, nn.LayerNorm):
                    setattr(module, name, Norm(child, fused))
        self.net = net

    def forward(self, x):
        net = self.net
        t = torch.cat([x, self.rows], 1)
        if any(self.padding):
            t = F.pad(t, self.padding, mode="replicate")
        full = t[:, :1]
        t = net.stem(F.pixel_unshuffle(t, 2))
        skips = []
        for encoder, down in zip(net.encoder, net.down):
            t = encoder(t)
            skips.append(t)
            t = down(t)
        t = net.middle[: net.before_context](t)
        t = t if net.context is None else net.context(t)
        t = net.middle[net.before_context :](t)
        for decoder, up in zip(reversed(net.decoder), reversed(net.up)):
            t = decoder(up(t, skips.pop()))
        t = net.head(t, full)[:, :, : self.height, : self.width]
        if net.signal is None:
            return x + t
        # As the gate computes it, in the precision of all else.
        signal = F.pad(x, (net.signal.reach,) * 4, mode="replicate")
        if net.signal.columns is not None:
            signal = net.signal.columns(signal)
        signal = F.conv2d(signal, net.signal.weight, net.signal.bias)
        return x + t * torch.tanh(F.relu(signal))


def sonolume(height: int, width: int, fused: bool = True):
    import export

    path = ROOT / "weights" / "sonolume-s.safetensors"
    net, metadata = export.load(path)
    tensors = {name: value.clone() for name, value in net.state_dict().items()}
    return Fixed(net, height, width, fused).eval(), tensors, metadata


class Compact(nn.Module):
    """SRVGGNetCompact of 64 channels with 16 convolutions in its body, x4, as Real-ESRGAN's fast models."""

    def __init__(self, channels=3, width=64, body=16, scale=4):
        super().__init__()
        layers = [nn.Conv2d(channels, width, 3, padding=1), nn.PReLU(width)]
        for _ in range(body):
            layers += [nn.Conv2d(width, width, 3, padding=1), nn.PReLU(width)]
        self.body = nn.ModuleList([*layers, nn.Conv2d(width, channels * scale**2, 3, padding=1)])
        self.scale = scale

    def forward(self, x):
        t = x
        for layer in self.body:
            t = layer(t)
        return F.pixel_shuffle(t, self.scale) + F.interpolate(x, scale_factor=self.scale, mode="nearest")


def compact(height: int, width: int):
    net = randomise(Compact(), 1.2)
    return net, net.state_dict(), None


class MimickNet(nn.Module):
    """Huang et al.'s U-Net of four halvings and 16 channels; names as its Keras layers."""

    def __init__(self, width=16, levels=4):
        super().__init__()
        self.levels, self.count = levels, 0
        for inputs in [1] + [width] * (2 * levels + 1) + [2 * width, width] * levels:
            self.add("conv2d", nn.Conv2d(inputs, width, 3, padding=1))
        self.add("conv2d", nn.Conv2d(width, 1, 1))
        self.count = 0
        for _ in range(levels):
            self.add("conv2d_transpose", nn.ConvTranspose2d(width, width, 2, stride=2))

    def add(self, kind, layer):
        self.add_module(f"{kind}_{self.count}" if self.count else kind, layer)
        self.count += 1

    def forward(self, x):
        layers = dict(self.named_children())
        convs = iter([layer for name, layer in layers.items() if not name.startswith("conv2d_transpose")])
        ups = [layer for name, layer in layers.items() if name.startswith("conv2d_transpose")]

        def block(x, function):
            for _ in range(2):
                x = function(next(convs)(x))
            return x

        down = lambda t: F.leaky_relu(t, 0.2)
        skips = []
        for _ in range(self.levels):
            x = block(x, down)
            skips.append(x)
            x = F.max_pool2d(x, 2)
        x = block(x, down)
        for up in ups:
            x = block(torch.cat([up(x), skips.pop()], 1), F.relu)
        return next(convs)(x)


def mimicknet(height: int, width: int):
    net = randomise(MimickNet(), 1.4)
    return net, net.state_dict(), None


class Residual(nn.Module):
    """x + conv_block(x)."""

    def __init__(self, count):
        super().__init__()
        conv = lambda: [nn.ReflectionPad2d(1), nn.Conv2d(count, count, 3), nn.InstanceNorm2d(count)]
        self.conv_block = nn.Sequential(*conv(), nn.ReLU(), *conv())

    def forward(self, x):
        return x + self.conv_block(x)


def cyclegan(height: int, width: int, channels=3, count=64, blocks=9):
    """CycleGAN's generator for 256x256 images: reflecting 7x7 ends, two halvings, nine residual blocks."""
    norm = lambda n: [nn.InstanceNorm2d(n), nn.ReLU()]
    layers = [nn.ReflectionPad2d(3), nn.Conv2d(channels, count, 7), *norm(count)]
    for n in (count, 2 * count):
        layers += [nn.Conv2d(n, 2 * n, 3, stride=2, padding=1), *norm(2 * n)]
    layers += [Residual(4 * count) for _ in range(blocks)]
    for n in (4 * count, 2 * count):
        layers += [nn.ConvTranspose2d(n, n // 2, 3, stride=2, padding=1, output_padding=1), *norm(n // 2)]
    net = randomise(nn.Sequential(*layers, nn.ReflectionPad2d(3), nn.Conv2d(count, channels, 7), nn.Tanh()), 1.4)
    return net, {f"model.{name}": value for name, value in net.state_dict().items()}, None


def swinir(height: int, width: int):
    """SwinIR's light-weight x2 generator, spandrel's implementation."""
    from spandrel.architectures.SwinIR.__arch.SwinIR import SwinIR

    net = SwinIR(
        img_size=64, in_chans=3, embed_dim=60, depths=[6] * 4, num_heads=[6] * 4, window_size=8, mlp_ratio=2.0,
        upscale=2, upsampler="pixelshuffledirect", resi_connection="1conv", img_range=1.0,
    )
    net = randomise(net)
    return net, net.state_dict(), None


# Name, maker, channels in, values taken
GENERATORS = {
    "sonolume-s": (sonolume, 1, (0.0, 1.0)),
    "srvgg-64x16": (compact, 3, (0.0, 1.0)),
    "mimicknet": (mimicknet, 1, (0.0, 1.0)),
    "cyclegan-resnet9": (cyclegan, 3, (-1.0, 1.0)),
    "swinir-light": (swinir, 3, (0.0, 1.0)),
}
# Those that no constant ties to an image size
ANY_SIZE = {"srvgg-64x16", "mimicknet", "cyclegan-resnet9"}


@torch.no_grad()
def make(name: str, height: int, width: int, **options):
    """(module, tensors for sonolume, metadata, input) of a generator at a size."""
    maker, channels, (low, high) = GENERATORS[name]
    torch.manual_seed(zlib.crc32(name.encode()))
    module, tensors, metadata = maker(height, width, **options)
    # 8-bit values, so that those who take pictures see the same numbers.
    grey = torch.randint(256, (1, channels, height, width), generator=torch.Generator().manual_seed(7)) / 255
    image = grey * (high - low) + low
    return module.requires_grad_(False), tensors, metadata, image
