"""The sonolume generator: a small encoder-decoder with local window attention.

One channel in and out, values in [0, 1]; the network computes a residual that is added to its input. Nothing looks at
the whole image, so the output at a pixel depends only on a bounded neighbourhood (the reach) and on the pixel's
absolute position (window grid and row coordinate). That makes exact tiling possible.

    x [1, H, W], row coordinate c[y] = y / (H - 1) (0 when H = 1)
    concat(x, c) [2, H, W], replicate-padded right and bottom to multiples of 32
    pixel_unshuffle(2) [8, H/2, W/2] -> stem conv3x3 -> C0
    encoder.0  residual blocks at 1/2     -> skip 0
    down.0     conv 2x2 stride 2          -> C1
    encoder.1  residual blocks at 1/4     -> skip 1
    down.1     conv 2x2 stride 2          -> C2
    middle     (residual block, window attention) pairs at 1/8, every second attention shifted by half a window
    context    (`context.*`, optional) between the first half of the pairs and the second, see `Context`
    up.1       conv1x1 C2 -> C1, bilinear x2, + skip 1
    decoder.1  residual blocks at 1/4
    up.0       conv1x1 C1 -> C0, bilinear x2, + skip 0
    decoder.0  residual blocks at 1/2
    head.reduce conv3x3 C0 -> K at 1/2, bilinear x2
    concat(., x) -> head.mix conv3x3 K+1 -> M, first half times second -> head.out conv3x3 M / 2 -> 1
    crop to [1, H, W], with a signal gate (`signal.weight`, stage two) times signal(x), add x

All up-sampling is bilinear followed by convolution: a constant feature map stays constant, so no up-sampler can print a
grid with a period of 2, 4 or 8 pixels, as PixelShuffle and transposed convolutions do. All 3x3 convolutions pad by
replication, so a constant image has no frame.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

EPS = 1e-5  # LayerNorm's epsilon, inside the square root
# channels at 1/2, 1/4, 1/8 and 1/16; blocks (each way) at all but the last; (block, attention) pairs at the last;
# attention heads and window; head widths K, M
SIZES = {
    "sonolume-s": dict(channels=(24, 48, 80, 80), blocks=(1, 1, 1), pairs=2, heads=5, window=4, head=(8, 16)),
    # multiples of the above, so that widen.py can start it from weights of sonolume-s
    "sonolume-m": dict(channels=(48, 96, 160, 240), blocks=(1, 2, 1), pairs=2, heads=15, window=4, head=(16, 32)),
}


class _ReplicatePad1(torch.autograd.Function):
    """F.pad(x, (1, 1, 1, 1), mode="replicate"), in channels-last layout. That is faster on a CPU; on a GPU F.pad leaves the layout
    and its gradient adds atomically."""

    @staticmethod
    def forward(ctx, x):
        n, c, h, w = x.shape
        y = torch.empty((n, c, h + 2, w + 2), dtype=x.dtype, device=x.device, memory_format=torch.channels_last)
        y[:, :, 1:-1, 1:-1] = x
        y[:, :, 0, 1:-1] = x[:, :, 0]
        y[:, :, -1, 1:-1] = x[:, :, -1]
        y[:, :, :, 0] = y[:, :, :, 1]
        y[:, :, :, -1] = y[:, :, :, -2]
        return y

    @staticmethod
    def backward(ctx, g):
        r = g[:, :, 1:-1].clone(memory_format=torch.channels_last)
        r[:, :, 0] += g[:, :, 0]
        r[:, :, -1] += g[:, :, -1]
        d = r[..., 1:-1].contiguous(memory_format=torch.channels_last)
        d[..., 0] += r[..., 0]
        d[..., -1] += r[..., -1]
        return d


class Conv3(nn.Conv2d):
    """3x3 convolution, stride 1, replicate padding of one pixel."""

    def __init__(self, cin: int, cout: int):
        super().__init__(cin, cout, 3)

    def forward(self, x):
        if torch.is_grad_enabled() and not torch.compiler.is_compiling():
            return super().forward(_ReplicatePad1.apply(x))
        return super().forward(F.pad(x, (1, 1, 1, 1), mode="replicate"))


class Norm(nn.LayerNorm):
    """LayerNorm over the channels of every pixel (biased variance, epsilon inside the root)."""

    def __init__(self, channels: int):
        super().__init__(channels, eps=EPS)

    def forward(self, x):
        # in f32: the bfloat16 kernel's weight gradients were wrong by more than half
        with torch.autocast(x.device.type, enabled=False):
            return super().forward(x.permute(0, 2, 3, 1).float()).to(x.dtype).permute(0, 3, 1, 2)


def gate(x):
    """The first half of the channels times the second half."""
    a, b = x.chunk(2, 1)
    return a * b


class Block(nn.Module):
    """x + conv2(gate(conv1(norm(x))))."""

    def __init__(self, channels: int):
        super().__init__()
        self.norm = Norm(channels)
        self.conv1 = Conv3(channels, channels)
        self.conv2 = Conv3(channels // 2, channels)

    def forward(self, x):
        return x + self.conv2(gate(self.conv1(self.norm(x))))


class WindowAttention(nn.Module):
    """x + proj(attention(LayerNorm(x))) in windows, as Swin V1: qkv with bias, learnt relative position bias,
    q scaled by head_width ** -0.5, cyclic shift with a mask of -100 between regions that are not neighbours.

    `relative_position_bias_table` is [(2 w - 1)^2, heads]; its row for query i and key j of a window is
    (yi - yj + w - 1) * (2 w - 1) + (xi - xj + w - 1).
    """

    def __init__(self, channels: int, heads: int, window: int, shift: int):
        super().__init__()
        self.heads, self.window, self.shift = heads, window, shift
        self.norm = Norm(channels)
        self.qkv = nn.Linear(channels, 3 * channels)
        self.proj = nn.Linear(channels, channels)
        self.relative_position_bias_table = nn.Parameter(torch.zeros((2 * window - 1) ** 2, heads))
        y, x = torch.meshgrid(torch.arange(window), torch.arange(window), indexing="ij")
        y, x = y.flatten(), x.flatten()
        index = (y[:, None] - y[None] + window - 1) * (2 * window - 1) + (x[:, None] - x[None] + window - 1)
        self.register_buffer("index", index, persistent=False)
        nn.init.trunc_normal_(self.relative_position_bias_table, std=0.02)

    def _mask(self, h, w, device):
        """[windows, w*w, w*w]: 0 where two tokens were neighbours before the cyclic shift, -100 elsewhere."""

        def region(n):
            r = torch.zeros(n, dtype=torch.long, device=device)
            r[n - self.window : n - self.shift] = 1
            r[n - self.shift :] = 2
            return r

        ids = self._windows((region(h)[:, None] * 3 + region(w)[None])[None, :, :, None])[..., 0]
        return torch.where(ids[:, None, :] == ids[:, :, None], 0.0, -100.0)

    def _windows(self, t):
        """[n, h, w, c] -> [n * windows, w*w, c], windows in row-major order."""
        n, h, w, c = t.shape
        k = self.window
        return t.view(n, h // k, k, w // k, k, c).permute(0, 1, 3, 2, 4, 5).reshape(-1, k * k, c)

    def forward(self, x):
        n, c, h, w = x.shape
        k, s = self.window, self.shift
        t = self.norm(x).permute(0, 2, 3, 1)
        if s:
            t = torch.roll(t, (-s, -s), (1, 2))
        t = self._windows(t.contiguous())
        q, key, v = self.qkv(t).view(-1, k * k, 3, self.heads, c // self.heads).permute(2, 0, 3, 1, 4)
        bias = self.relative_position_bias_table[self.index.view(-1)].view(k * k, k * k, -1).permute(2, 0, 1)[None]
        if s:
            mask = self._mask(h, w, x.device)
            bias = (bias + mask[:, None]).repeat(n, 1, 1, 1)
        a = (q * (c // self.heads) ** -0.5) @ key.transpose(-2, -1) + bias
        t = (a.softmax(-1).to(v.dtype) @ v).transpose(1, 2).reshape(-1, k * k, c)
        t = self.proj(t)
        t = t.view(n, h // k, w // k, k, k, c).permute(0, 1, 3, 2, 4, 5).reshape(n, h, w, c)
        if s:
            t = torch.roll(t, (s, s), (1, 2))
        return x + t.permute(0, 3, 1, 2)


class Context(nn.Module):
    """x + conv2(gate(conv1(depthwise(norm(x))))), the depthwise convolution of 15x15 with replicate padding. It sees 7 x 16 pixels
    to each side: what an image's gain, dynamic range and attenuation were can only be judged from much of it at once. Its
    weights start as a mean and conv2 at zero, so that it can be added to trained weights.
    """

    KERNEL = 15

    def __init__(self, channels: int):
        super().__init__()
        self.norm = Norm(channels)
        self.depthwise = nn.Conv2d(channels, channels, self.KERNEL, groups=channels)
        self.conv1 = nn.Conv2d(channels, channels, 1)
        self.conv2 = nn.Conv2d(channels // 2, channels, 1)
        self.depthwise.weight.data.mul_(0.25).add_(1 / self.KERNEL**2)
        self.conv2.weight.data.zero_()
        self.conv2.bias.data.zero_()

    def forward(self, x):
        t = F.pad(self.norm(x), (self.KERNEL // 2,) * 4, mode="replicate")
        return x + self.conv2(gate(self.conv1(self.depthwise(t))))


def double(x):
    """Bilinear x2, align_corners False."""
    return F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False)


class Merge(nn.Module):
    """skip * up2(scale(t)) + up2(shift(t)): what is seen coarsely sets gain and offset of what is seen finely."""

    def __init__(self, coarse: int, fine: int):
        super().__init__()
        self.scale = nn.Conv2d(coarse, fine, 1)
        self.shift = nn.Conv2d(coarse, fine, 1)
        self.scale.weight.data.mul_(0.3)
        self.scale.bias.data.fill_(1.0)

    def forward(self, t, skip):
        return skip * double(self.scale(t)) + double(self.shift(t))


class Head(nn.Module):
    def __init__(self, channels: int, k: int, m: int):
        super().__init__()
        self.reduce = Conv3(channels, k)
        self.mix = Conv3(k + 1, m)
        self.out = Conv3(m // 2, 1)

    def forward(self, t, x):
        return self.out(gate(self.mix(torch.cat([double(self.reduce(t)), x.to(t.dtype)], 1))))


class SignalGate(nn.Conv2d):
    """tanh(relu(local mean in grey levels - 1/2) / 3), replicate padding; not trained. 0 where the mean is at most half a level, 0.16
    at one, 0.46 at two, 0.91 at five: where there is no signal, nothing may be added to the input. Without it black was
    lifted, above all beside bright edges, and terms of the loss against that darkened what is merely dim.

    The mean is of 7x7 pixels ("box", stage two) or by a Gaussian of sigma 4 over 17x17, columns and then rows ("wide", stage three): with
    the box, quantised noise of a level or two opened and closed it from place to place, which left black islands and bright dots."""

    BLACK, SOFT, SIGMA = 0.5 / 255, 3 / 255, 4.0

    def __init__(self, kind: str):
        reach = {"box": 3, "wide": 8}[kind]
        super().__init__(1, 1, 2 * reach + 1 if kind == "box" else (1, 2 * reach + 1))
        self.kind, self.reach = kind, reach
        self.columns = None
        if kind == "wide":
            taps = torch.exp(-0.5 * (torch.arange(-reach, reach + 1.0) / self.SIGMA) ** 2)
            taps = taps / taps.sum()
            self.columns = nn.Conv2d(1, 1, (2 * reach + 1, 1), bias=False)
            self.columns.weight.data.copy_(taps[None, None, :, None])
            self.weight.data.copy_(taps[None, None, None] / self.SOFT)
        else:
            self.weight.data.fill_(1 / 49 / self.SOFT)
        self.bias.data.fill_(-self.BLACK / self.SOFT)
        self.requires_grad_(False)

    def forward(self, x):
        with torch.autocast(x.device.type, enabled=False):
            x = F.pad(x.float(), (self.reach,) * 4, mode="replicate")
            return torch.tanh(F.relu(super().forward(x if self.columns is None else self.columns(x))))


class Sonolume(nn.Module):
    def __init__(self, channels, blocks, pairs, heads, window, head, gate=None, context=False, without=None):
        super().__init__()
        self.without = without
        self.signal = SignalGate(gate) if gate else None
        self.multiple = window << len(channels)  # the padded height and width are multiples of this
        self.stem = Conv3(8, channels[0])
        self.encoder = nn.ModuleList([nn.Sequential(*[Block(c) for _ in range(b)]) for c, b in zip(channels, blocks)])
        self.down = nn.ModuleList([nn.Conv2d(c, d, 2, 2) for c, d in zip(channels, channels[1:])])
        middle = []
        for i in range(pairs):
            middle.append(Block(channels[-1]))
            if without != "attention":
                middle.append(WindowAttention(channels[-1], heads, window, window // 2 if i % 2 else 0))
        self.middle = nn.Sequential(*middle)
        self.before_context = len(middle) // pairs * (pairs // 2)
        self.context = Context(channels[-1]) if context else None
        self.up = nn.ModuleList([Merge(d, c) for c, d in zip(channels, channels[1:])])
        self.decoder = nn.ModuleList([nn.Sequential(*[Block(c) for _ in range(b)]) for c, b in zip(channels, blocks)])
        self.head = Head(channels[0], *head)
        for m in self.modules():  # residual branches start near zero
            if isinstance(m, Block):
                m.conv2.weight.data.mul_(0.3)
            elif isinstance(m, WindowAttention):
                m.proj.weight.data.mul_(0.3)
        self.head.out.weight.data.mul_(0.3)
        self.head.out.bias.data.zero_()

    def forward(self, x, rows=None):
        """x [n, 1, H, W]; rows [n, H] are the coordinates of the rows, by default those of a whole image."""
        n, _, h, w = x.shape
        if self.without == "row":
            rows = x.new_zeros(n, h)
        elif rows is None:
            rows = (torch.arange(h, device=x.device, dtype=x.dtype) / max(h - 1, 1)).expand(n, h)
        t = torch.cat([x, rows.to(x.dtype)[:, None, :, None].expand(n, 1, h, w)], 1)
        ph, pw = -h % self.multiple, -w % self.multiple
        if ph or pw:
            t = F.pad(t, (0, pw, 0, ph), mode="replicate")
        full = t[:, :1]
        t = self.stem(F.pixel_unshuffle(t, 2).contiguous(memory_format=torch.channels_last))
        skips = []
        for encoder, down in zip(self.encoder, self.down):
            t = encoder(t)
            skips.append(t)
            t = down(t)
        t = self.middle[: self.before_context](t)
        t = t if self.context is None else self.context(t)
        t = self.middle[self.before_context :](t)
        for decoder, up in zip(reversed(self.decoder), reversed(self.up)):
            t = decoder(up(t, skips.pop()))
        t = self.head(t, full)[:, :, :h, :w].to(x.dtype)
        return x + (t if self.signal is None else t * self.signal(x))


def build(name: str = "sonolume-s", gate: str | None = None, context: bool = False, without: str | None = None) -> Sonolume:
    """`gate`: with a signal gate, "box" or "wide"; `context`: with the wide depthwise block. `without` leaves out a part, to
    measure what it is worth: "row", the row coordinate, or "attention". Nothing runs such weights but this recipe."""
    return Sonolume(**SIZES[name], gate=gate, context=context, without=without)


def cost(model: Sonolume, size: int = 256) -> tuple[int, int]:
    """(parameters, multiply-accumulates for a size x size image)."""
    macs = 0

    def hook(m, i, o):
        nonlocal macs
        if isinstance(m, nn.Conv2d):
            macs += o.numel() * m.weight[0].numel()
        elif isinstance(m, nn.Linear):
            macs += o.numel() * m.in_features
        else:
            macs += 2 * i[0].numel() * m.window**2

    hooks = [
        m.register_forward_hook(hook)
        for m in model.modules()
        if isinstance(m, (nn.Conv2d, nn.Linear, WindowAttention))
    ]
    with torch.no_grad():
        model(torch.zeros(1, 1, size, size))
    for h in hooks:
        h.remove()
    return sum(p.numel() for p in model.parameters()), macs


if __name__ == "__main__":
    for name, context in ((name, context) for name in SIZES for context in (False, True)):
        p, m = cost(build(name, context=context))
        print(f"{name}{' with context' if context else ''}: {p / 1e6:.3f} M parameters, {m / 1e9:.3f} GMAC per 256x256")
