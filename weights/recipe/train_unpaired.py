"""Stage two: adversarial and unpaired, real handheld images against cart images of the same organ and depth.

    python train_unpaired.py --data DATA --work WORK [--init WORK/supervised-ema.pt] [--steps N] [--minutes M] [--resume]

The generator's loss is the sum of
  adversarial   least squares, three spectral-norm patch discriminators (full, half and quarter size) that see the row
                coordinate; their crops start at a random pixel, so that they hold no fixed phase against the generator's
                grid, and include the crop's border, so that a frame would be found out
  texture       sliced Wasserstein distance of 7x7 patches on all four pyramid levels, between sets: recent outputs of the
                organ against all its cart images, each level relative to the distance of the untouched input
  content       1 - LNCC of output and input at half and at quarter size
  brightness    running quantiles of the low-pass image per organ and depth quarter against those of the cart images;
                too dark is corrected only in proportion to what is there, so nothing is lifted out of the black
  black         where the input is black, the output is black, above all beside bright edges; half planes of the replay are
                blackened for it (most of that is done by the network's signal gate, which this stage adds)
  gaps          what is much darker than its surroundings (a vessel, a cyst) stays so
  columns       no fine columns in what is dim: echoes are wider than deep
  dark          where the replay's target is dark, so is the output: noise is not lifted
  dots          where there is almost nothing, no bright dots
  grid, parity  no mean pattern of period 2, 4 or 8
  points        bright points of simulated phantoms stay where they are
  replay        the supervised loss of stage one, on images and on simulated phantoms
  identity      a cart image or a good phantom stays as it is, its coarse brightness above all

Writes WORK/unpaired.pt (to resume), WORK/unpaired-ema.pt (weights) and WORK/unpaired.log.
"""

from __future__ import annotations

import argparse
import math
import os
import time

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.utils.parametrizations import spectral_norm

import data
import export
import model
import phantoms
from degrade import degrade
from losses import gaussian, filter2, lncc, patches, pyramid, ssim, swd
from train_supervised import Ahead, Clock, Ema, begin, resume_optimizer, save, step_if_finite, validate, validation_set

BINS = 4  # depth quarters of the brightness term
QUANTILES = 17


class Discriminator(nn.Module):
    """Patch discriminator on the image and its row coordinate."""

    def __init__(self, width: int):
        super().__init__()
        c = width
        self.body = nn.Sequential(
            spectral_norm(nn.Conv2d(2, c, 4, 2, 1)), nn.LeakyReLU(0.2),
            spectral_norm(nn.Conv2d(c, 2 * c, 4, 2, 1)), nn.LeakyReLU(0.2),
            spectral_norm(nn.Conv2d(2 * c, 2 * c, 3, 1, 1)), nn.LeakyReLU(0.2),
            spectral_norm(nn.Conv2d(2 * c, 1, 3, 1, 1)),
        )

    def forward(self, t):
        return self.body(t)


class Judges(nn.Module):
    def __init__(self, width: int = 32):
        super().__init__()
        self.scales = nn.ModuleList([Discriminator(width) for _ in range(3)])

    def forward(self, x, rows, shift):
        """Scores at three sizes; `shift` = (flip vertically, flip horizontally, rows cut, columns cut)."""
        t = torch.cat([x, rows[:, None, :, None].expand_as(x)], 1)
        flip = [d for d, on in ((2, shift[0]), (3, shift[1])) if on]
        t = t.flip(flip) if flip else t
        t = t[:, :, shift[2] :, shift[3] :].contiguous(memory_format=torch.channels_last)
        out = []
        for i, d in enumerate(self.scales):
            out.append(d(t))
            if i < 2:
                t = F.avg_pool2d(t, 2)
        return out


def black_energy(x, out):
    """Mean of |out|, rounded below a grey level, where the 7x7 neighbourhood of the input is black; four times that within
    12 pixels of light. (The plain |out| keeps pulling at values that are black already and drowns all other gradients.)"""
    black = (F.max_pool2d(x, 7, 1, 3) < 1.5 / 255).float()
    lift = torch.sqrt(out**2 + 1 / 255**2) - 1 / 255
    return (lift * black * (1 + 3 * (F.max_pool2d(x, 25, 1, 12) > 0.1).float())).mean()


def local_mean(t, k):
    """Mean of k x k pixels, k odd, the border replicated."""
    return F.avg_pool2d(F.pad(t, (k // 2,) * 4, mode="replicate"), k, 1)


def gap_energy(x, out):
    """What 5x5 pixels of the output exceed, where those of the input have at most 0.35 times the brightness of the 41x41 around
    them, the same share of the output's surroundings. Without it vessels and small cysts are lifted as a whole depth is."""
    fine, wide = local_mean(x, 5), local_mean(x, 41).clamp_min(1e-3)
    gap = (1 - fine / (0.35 * wide)).clamp(0, 1) * (wide > 10 / 255)
    kept = fine * (local_mean(out.detach(), 41) / wide).clamp(1, 3)
    return (F.relu(local_mean(out, 5) - kept - 3 / 255) * gap.sqrt()).mean()


def column_energy(x, out):
    """What the output's detail across exceeds, in dim areas, that along the depth and the input's own: fine columns in the lumen
    of a vessel. Echoes are wider than deep. (Second differences over 15x15 pixels; no phase enters, nor a fixed period.)"""

    def rough(t, dim):
        d = t.narrow(dim, 1, t.shape[dim] - 2) - (t.narrow(dim, 0, t.shape[dim] - 2) + t.narrow(dim, 2, t.shape[dim] - 2)) / 2
        d = F.pad(d, (1, 1, 0, 0) if dim == 3 else (0, 0, 1, 1))
        return torch.sqrt(local_mean(d**2, 15) + (0.5 / 255) ** 2)

    with torch.no_grad():
        mean = local_mean(out, 15)
        gain = (mean / local_mean(x, 15).clamp_min(1 / 255)).clamp(1, 3)
        limit = torch.maximum(0.75 * rough(out, 2), 1.5 * gain * rough(x, 3))
        dim = ((60 / 255 - mean) / (30 / 255)).clamp(0, 1)
    return (F.relu(rough(out, 3) - limit) * dim).mean()


def dark_energy(t, out):
    """What the replay's output exceeds where its target is dark over 9x9 pixels: noise behind a reflector, a shadow, a cyst."""
    dark = (1 - F.avg_pool2d(t, 9, 1, 4) * 255 / 4).clamp(0, 1)
    return (F.relu(out - t - 2 / 255) * dark).mean()


def centroids(image, dots, r=6):
    """Centre of what exceeds 0.6 times the maximum of 13x13 pixels around each point, [points, 2], in pixels."""
    b = torch.stack([image[y - r : y + r + 1, x - r : x + r + 1] for y, x in dots])
    b = F.relu(b - 0.6 * b.amax((1, 2), keepdim=True))
    g = torch.arange(-r, r + 1, device=image.device).to(b)
    return torch.stack([(b * g[:, None]).sum((1, 2)), (b * g).sum((1, 2))], 1) / b.sum((1, 2)).clamp_min(1e-6)[:, None]


def coarse(out, t):
    """Mean absolute difference of the local means."""
    return (F.avg_pool2d(out, 16, 8) - F.avg_pool2d(t, 16, 8)).abs().mean()


def black_out(rng, t, y):
    """Blackens the same random half plane or everything in a target and its degraded twin."""
    h, w = t.shape[-2:]
    if rng.random() < 0.15:
        mask = np.zeros((h, w), np.float32)
    else:
        angle = rng.uniform(0, 2 * np.pi) if rng.random() < 0.5 else rng.integers(4) * np.pi / 2
        yy, xx = np.mgrid[:h, :w]
        side = (yy - rng.uniform(0.2, 0.8) * h) * np.sin(angle) + (xx - rng.uniform(0.2, 0.8) * w) * np.cos(angle)
        mask = (side > 0).astype(np.float32)
    t *= torch.from_numpy(mask)
    y *= torch.from_numpy(mask)


def fine_detail(x):
    """(what a blur takes away, a weight that is large where the image is dark)."""
    low = filter2(F.pad(x, (5, 5, 5, 5), mode="replicate"), gaussian(1.5, 5, x.device))
    return x - low, 1 / (1 + (low.detach().clamp_min(0) / 0.08) ** 2)


def grid_energy(x):
    """Squared mean of the fine detail over each of the 8x8 phases, weighted towards dark and flat areas."""
    detail, weight = fine_detail(x)
    h, w = x.shape[2] // 8 * 8, x.shape[3] // 8 * 8

    def phase(t):
        return t[:, :, :h, :w].reshape(-1, h // 8, 8, w // 8, 8).mean((0, 1, 3))

    return ((phase(detail * weight) / phase(weight).clamp_min(1e-3)) ** 2).sum()


class Parity:
    """The fine detail's mean with alternating signs along rows, along columns and both, in dark areas, in bright ones and
    everywhere: a pattern of period 2, which the mean over 64 phases sees only once it is visible. One batch's mean is mostly
    chance, so the running mean says which way each of the nine is pushed."""

    RATE, FULL = 0.02, 2e-5  # the push is whole from a running mean of 0.005 grey levels on

    def __init__(self):
        self.mean = torch.zeros(9)

    def loss(self, x):
        detail, dark = fine_detail(x)
        rows, columns = (1 - 2 * (torch.arange(n, device=x.device) % 2).to(x) for n in x.shape[2:])
        now = torch.stack([(detail * weight * sign).sum() / weight.sum().clamp_min(1)
                           for weight in (dark, 1 - dark, torch.ones_like(dark))
                           for sign in (rows[:, None], columns[None], rows[:, None] * columns[None])])
        self.mean = self.mean.to(x).lerp(now.detach(), self.RATE)
        return ((self.mean / self.FULL).clamp(-1, 1) * now).sum()


class Tone:
    """Brightness of the low-pass image (one eighth) per organ and depth quarter: running quantiles of the outputs against
    those of the cart crops. An output pixel is pushed by the difference of the two at its own rank."""

    # Deep kidney comes out darker on images that were not trained on (0.68 to 0.74 of the cart images') than on those that were
    # (0.98 to 1.02): its goal is set higher.
    LIFT = {("kidney", 3): 1.1}

    def __init__(self):
        self.real, self.fake = {}, {}

    @staticmethod
    def bins(x, rows):
        """(low-pass values, their depth quarters), flat."""
        t = F.avg_pool2d(x, 8)
        q = (rows[:, 4::8][:, : t.shape[2]] * BINS).long().clamp(0, BINS - 1)
        return t, q[:, None, :, None].expand_as(t)

    def update(self, store, x, rows, organ, rate):
        t, q = self.bins(x, rows)
        p = torch.linspace(0, 1, QUANTILES, device=x.device)
        for b in range(BINS):
            v = t[q == b]
            if v.numel() > 20:
                now = torch.quantile(v, p)
                old = store.get((organ, b))
                store[organ, b] = now if old is None else old.to(now).lerp(now, rate)

    def loss(self, out, rows, organ, h):
        self.update(self.real, h, rows, organ, 0.015)
        self.update(self.fake, out.detach(), rows, organ, 0.03)
        t, q = self.bins(out, rows)
        total = out.new_zeros(())
        for b in range(BINS):
            v = t[q == b]
            if v.numel() <= 20:
                continue
            fake, real = self.fake[organ, b].to(out), self.real[organ, b].to(out) * self.LIFT.get((organ, b), 1)
            with torch.no_grad():
                rank = torch.searchsorted(fake.contiguous(), v.detach().contiguous()).clamp(1, QUANTILES - 1)
                error = ((fake - real) / (real + 0.03)).clamp(-1, 1)
                e = (error[rank] + error[rank - 1]) / 2
                # too dark is corrected only in proportion to what is there: nothing is lifted out of the black
                weight = torch.where(e > 0, torch.ones_like(v), (v / (v.mean() + 0.02)).clamp(0, 3))
            total = total + (e * weight * v).sum()
        return total / t.numel()


class Texture:
    """Sliced Wasserstein distance between sets of patches per organ and pyramid level: all training cart images on one
    side, the last `IMAGES` outputs on the other. A batch alone would compare two small samples, whose difference is
    mostly chance; here a patch of the present output is pulled towards the cart quantile at its rank, half among the
    recent outputs and half among the present ones. (The recent alone answer late: a generator that darkens sees itself
    at ranks that excuse it; its brightness swung and the distances rose.) Needs whole images, so that both sides see the
    same places."""

    IMAGES, KEEP, NOW, POOL, DIRECTIONS = 32, 256, 256, 49152, 64
    WEIGHTS = 1.0, 1.6, 1.0, 1.5  # of the levels, finest first

    def __init__(self, high, low, rng, device):
        self.device = device  # the sets stay there; chance is drawn on the CPU
        self.generator = torch.Generator().manual_seed(int(rng.integers(2**62)))
        self.cart, self.scale, self.queue, self.at = {}, {}, {}, {}
        for organ in high:
            cart, hand = ([self.take(self.tensor(images[i : i + 1]).to(device), math.ceil(self.POOL / len(images))) for i in range(len(images))]
                          for images in (high[organ], low[organ]))
            for level in range(4):
                mix = torch.randperm(sum(len(c[level]) for c in cart), generator=self.generator).to(device)
                self.cart[organ, level] = torch.cat([c[level] for c in cart])[mix]
                self.scale[organ, level] = self.distance(torch.cat([c[level] for c in hand]), self.cart[organ, level])
            self.at[organ] = 0
        for level in range(4):  # one unit a level: the mean over the organs
            mean = float(np.mean([self.scale[o, level] for o in high]))
            self.scale.update({(o, level): mean for o in high})

    @staticmethod
    def tensor(images):
        return torch.from_numpy(np.stack(images).astype(np.float32) / 255)[:, None]

    def take(self, x, count):
        return [patches(p, count, self.generator) for p in pyramid(x)]

    def directions(self):
        u = torch.randn(49, self.DIRECTIONS, generator=self.generator).to(self.device)
        return u / u.norm(dim=0)

    def sorted(self, t, u):
        t = (t @ u).t().contiguous()
        # numpy sorts floats several times faster than torch on a CPU
        return t.sort(-1).values if t.is_cuda else torch.from_numpy(np.sort(t.numpy(), -1))

    def distance(self, a, b):
        u = self.directions()
        m = min(len(a), len(b), 16384)
        pick = lambda t: t[torch.randperm(len(t), generator=self.generator)[:m].to(self.device)]
        return float((self.sorted(pick(a), u) - self.sorted(pick(b), u)).abs().mean())

    def remember(self, x, organ):
        """Puts outputs [n, 1, 256, 256] into the organ's queue."""
        kept = self.take(x.detach().clamp(0, 1), self.KEEP)
        for i in range(len(x)):
            for level, p in enumerate(kept):
                queue = self.queue.setdefault((organ, level), torch.empty(self.IMAGES, self.KEEP, 49, device=self.device))
                queue[self.at[organ] % self.IMAGES] = p[i * self.KEEP : (i + 1) * self.KEEP]
            self.at[organ] += 1

    def loss(self, fake, x, organ):
        """(loss, the four distances of the queue relative to the input's)."""
        levels = pyramid(fake.clamp(0, 1))
        light = pyramid(x)[3]
        # the coarse level lifts nothing out of the black (both signs alike: letting only the darker pass would turn the
        # chance of the directions into a steady darkening)
        levels[3].register_hook(lambda g: g * (light / 0.03).clamp(0, 1))
        total, ratios = fake.new_zeros(()), []
        for level, t in enumerate(levels):
            u = self.directions()
            queue = self.queue[organ, level][: min(self.at[organ], self.IMAGES)].reshape(-1, 49)
            m = len(queue)
            begin = int(torch.randint(0, len(self.cart[organ, level]) - m + 1, (1,), generator=self.generator))
            fakes, reals = self.sorted(queue, u), self.sorted(self.cart[organ, level][begin : begin + m], u)
            now = (patches(t, self.NOW, self.generator) @ u).t()
            with torch.no_grad():
                v = now.detach().contiguous()
                among = lambda t: (torch.searchsorted(t, v) + torch.searchsorted(t, v, right=True)) / (2 * t.shape[1])
                rank = (among(fakes) + among(v.sort(1).values)) / 2
                target = reals.gather(1, (rank * m).long().clamp(max=m - 1))
            scale = self.scale[organ, level]
            # the square root is the distance itself where it is large, and quiet within its own sampling noise
            total = total + self.WEIGHTS[level] * (torch.sqrt((now - target) ** 2 + (0.2 * scale) ** 2) - 0.2 * scale).mean() / scale
            ratios.append((fakes - reals).abs().mean() / scale)
        return total, ratios


class Held:
    """The held-out images: degraded pairs, and the real ones of either side."""

    def __init__(self, root):
        low, high = (data.load_usenhance(root, side, "held") for side in ("low", "high"))
        self.pairs = validation_set(high)
        self.low, self.high = (Texture.tensor([im for o in data.ORGANS for im in d[o]]) for d in (low, high))
        self.input = swd(self.low, self.high)

    @torch.no_grad()
    def real(self, net, device):
        """(outputs for the real images, their distances to the cart images relative to the input's)."""
        out = torch.cat([net(t.to(device)).cpu() for t in self.low.split(4)]).clamp(0, 1)
        return out, [v / w for v, w in zip(swd(out, self.high), self.input)]


def main():
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    p.add_argument("--data", required=True)
    p.add_argument("--work", required=True)
    p.add_argument("--init", help="weights to start from, by default WORK/supervised-ema.pt")
    p.add_argument("--steps", type=int, default=10000)
    p.add_argument("--minutes", type=float, default=1e9)
    p.add_argument("--until", type=float, default=1e9, help="stop once so many of the schedule's minutes are spent; --resume goes on")
    p.add_argument("--batch", type=int, default=3)
    p.add_argument("--crop", type=int, default=192)
    p.add_argument("--lr", type=float, default=2.5e-4)
    p.add_argument("--seed", type=int, default=2)
    p.add_argument("--threads", type=int, default=os.cpu_count())
    p.add_argument("--workers", type=int, default=0, help="processes that make the batches; by default a thread of this one does")
    p.add_argument("--device", default="auto")
    p.add_argument("--compile", action="store_true", help="torch.compile the network, which takes a minute to begin with")
    p.add_argument("--resume", action="store_true")
    for name, value in dict(adversarial=1.0, texture=0.3, content=3.0, brightness=50.0, black=100.0, gaps=20.0, columns=110.0, dark=20.0,
                            dots=50.0, grid=100.0, parity=20.0, points=5.0, replay=7.0, identity=5.0).items():
        p.add_argument(f"--w-{name}", type=float, default=value)
    a = p.parse_args()

    work, log, device, cuda = begin(a, "unpaired")
    choose = np.random.default_rng([a.seed, 1, 1])  # what is not in the items

    high, low = data.load_usenhance(a.data, "high", "train"), data.load_usenhance(a.data, "low", "train")
    extra = data.load_hq(a.data, "train")
    held = Held(a.data)

    start_net, meta = export.load(a.init or work / "supervised-ema.pt")
    size_name = meta["size"]
    context = start_net.context is not None
    net = model.build(size_name, gate="box", context=context)
    net.load_state_dict(start_net.state_dict(), strict=start_net.signal is not None)
    saved = None
    if a.resume and (work / "unpaired.pt").exists():
        saved = torch.load(work / "unpaired.pt", map_location="cpu", weights_only=False)
    step, spent = (saved["step"], saved["spent"]) if saved else (0, 0.0)

    def make(rng, index):
        """Unpaired crops of one organ at the same depths and zoom; then a degraded batch, in it at times a phantom."""
        organ = data.ORGANS[index % len(data.ORGANS)]
        carts, hands = data.Crops(high, extra, rng), data.Crops(low, [], rng)
        whole = rng.random() < 0.75
        n, size = (max(1, round(a.batch * a.crop**2 / 256**2)), 256) if whole else (a.batch, a.crop)
        zoom = 1.0 if whole else float(np.exp(rng.uniform(np.log(0.8), np.log(1.5))))
        lows = [hands.zoomed(size, organ, zoom) for _ in range(n)]
        highs = [carts.zoomed(size, organ, zoom, top=item[2]) for item in lows]
        if rng.random() < 0.5:  # other contrasts of the handheld scanner than those seen
            lows = [(v[0] ** np.float32(np.exp(rng.uniform(-0.1, 0.1))), *v[1:]) for v in lows]
        tensor = lambda items, k: torch.from_numpy(np.stack([v[k] for v in items]))
        t, trows, *_ = carts.batch(max(1, a.batch - 1), 192)
        y = degrade(t, trows, rng, fan=rng.random() < 0.15)
        dots = []
        kind = rng.random()
        if kind < 0.18:
            sharp, wide, dots = phantoms.points_pair(rng, 192)
            t[0, 0], y[0, 0] = torch.from_numpy(sharp), torch.from_numpy(wide)
        elif kind < 0.55:
            if rng.random() < 0.6:
                sharp, wide, depth = phantoms.sector_pair(rng, 192)
                trows[0] = torch.from_numpy(depth)
            else:
                sharp, wide = phantoms.random_pair(rng, 192)
            t[0, 0] = torch.from_numpy(sharp)
            y[:1] = torch.from_numpy(wide)[None, None] if rng.random() < 0.6 else degrade(t[:1], trows[:1], rng)
        if len(t) > 1 and rng.random() < 0.6:
            black_out(rng, t[-1], y[-1])
        return organ, tensor(lows, 0)[:, None], tensor(lows, 1), tensor(highs, 0)[:, None], y, t, trows, dots

    ahead = Ahead(make, a.seed, step, a.workers, pin=cuda)
    net = net.train().to(device, memory_format=torch.channels_last)
    judges = Judges().to(device, memory_format=torch.channels_last)
    og = torch.optim.Adam([v for v in net.parameters() if v.requires_grad], a.lr, betas=(0.5, 0.99), fused=cuda or None)
    od = torch.optim.Adam(judges.parameters(), 2 * a.lr, betas=(0.5, 0.99), fused=cuda or None)
    ema = Ema(net, 0.998)
    tone, parity = Tone(), {"fake": Parity(), "replay": Parity()}
    if saved:
        net.load_state_dict(saved["net"])
        judges.load_state_dict(saved["judges"])
        resume_optimizer(og, saved["og"], cuda)
        resume_optimizer(od, saved["od"], cuda)
        ema.state = {k: v.to(device) for k, v in saved["ema"].items()}
        tone.real, tone.fake = saved["tone"]
        parity = saved["parity"]
        choose.bit_generator.state = saved["choose"]
    run = torch.compile(net) if a.compile else net

    texture = Texture(high, low, np.random.default_rng(a.seed + 200), device)
    with torch.no_grad():  # outputs to begin with
        pick = np.random.default_rng(a.seed + 300)
        for organ in data.ORGANS:
            for i in pick.permutation(len(low[organ]))[: Texture.IMAGES]:
                with torch.autocast(device.type, dtype=torch.bfloat16):
                    out = net(Texture.tensor(low[organ][i : i + 1]).to(device))
                texture.remember(out.float(), organ)

    if not tone.real:
        warm = data.Crops(high, [], np.random.default_rng(a.seed + 100))
        for k in range(60):
            for organ in data.ORGANS:
                items = [warm.zoomed(a.crop, organ, 1.0) for _ in range(a.batch)]
                x, rows = (torch.from_numpy(np.stack([v[i] for v in items])) for i in (0, 1))
                tone.update(tone.real, x[:, None], rows, organ, max(0.02, 1 / (k + 1)))
    item = ahead.next()
    clock = Clock(spent)
    last_save = last_check = time.time()
    totals: dict[str, list[torch.Tensor]] = {}
    while True:
        progress = max(step / a.steps, clock.spent / 60 / a.minutes)
        done = progress >= 1 or clock.spent / 60 >= a.until
        now = time.time()
        if done or now - last_save > 60:
            last_save = now
            save(dict(net=net.state_dict(), judges=judges.state_dict(), og=og.state_dict(), od=od.state_dict(), ema=ema.state,
                      step=step, spent=clock.spent, tone=(tone.real, tone.fake), parity=parity, choose=choose.bit_generator.state, size=size_name),
                 work / "unpaired.pt")
            save(dict(net=ema.state, step=step, size=size_name, stage="unpaired"), work / "unpaired-ema.pt")
        if done or now - last_check > 400 or step == 200:
            last_check = now
            probe = model.build(size_name, gate="box", context=context).to(device, memory_format=torch.channels_last)
            probe.load_state_dict(ema.state)
            i, s0, o, s1 = validate(probe, held.pairs, device)
            out, ratio = held.real(probe, device)
            quarters = (out.reshape(-1, 4, 64, 256).mean((0, 2, 3)) / held.high.reshape(-1, 4, 64, 256).mean((0, 2, 3))).tolist()
            text = lambda v: " ".join(f"{t:.2f}" for t in v)
            print(f"{time.strftime('%H:%M:%S')} held step {step} psnr {i:.2f} -> {o:.2f} ssim {s0:.3f} -> {s1:.3f}"
                  f" swd ratio {text(ratio)} brightness {text(quarters)}", file=log)
            save(dict(net=ema.state, step=step, size=size_name, stage="unpaired"), work / f"unpaired-ema-{step}.pt")
        if done:
            break
        rate = a.lr * (0.02 + 0.98 * min(1, 2 * (1 - progress)))
        for o, f in ((og, min(1, (step + 1) / 400)), (od, 2)):  # the discriminators first learn what there is
            for g in o.param_groups:
                g["lr"] = rate * f

        organ, *item, dots = item
        x, rows, h, y, t, trows = (v.to(device, non_blocking=True) for v in item)
        n = len(x)

        with torch.autocast(device.type, dtype=torch.bfloat16):
            fake = run(x, rows)
        fake = fake.float()
        shift = (choose.random() < 0.5, choose.random() < 0.5, int(choose.integers(8)), int(choose.integers(8)))

        # discriminators
        with torch.autocast(device.type, dtype=torch.bfloat16):
            scores = judges(torch.cat([h, fake.detach()]), torch.cat([rows, rows]), shift)
        d_loss = sum(((s[:n].float() - 1) ** 2).mean() + (s[n:].float() ** 2).mean() for s in scores) / 6
        od.zero_grad(set_to_none=True)
        d_loss.backward()
        od.step()

        # generator
        judges.requires_grad_(False)
        with torch.autocast(device.type, dtype=torch.bfloat16):
            scores = judges(fake, rows, shift)
            good = torch.cat([h[:1, :, :192, :192], t[:1]]) if step % 2 else None  # the costly extras take turns
            out = run(y, trows)
            same = run(good, torch.cat([rows[:1, :192], trows[:1]])) if good is not None else None
        judges.requires_grad_(True)
        out = out.float()
        parts = dict(adversarial=sum(((s.float() - 1) ** 2).mean() for s in scores) / 3)
        if x.shape[2] == 256:
            parts["texture"], ratios = texture.loss(fake, x, organ)
            texture.remember(fake, organ)
            parts |= {f"level{i + 1}": v for i, v in enumerate(ratios)}
        if step % 2 == 0:
            parts["grid"] = 2 * grid_energy(fake)
        parts["parity"] = parity["fake"].loss(fake) + parity["replay"].loss(out)
        half, half_x = F.avg_pool2d(fake, 2), F.avg_pool2d(x, 2)
        parts["content"] = (1 - lncc(half, half_x, eps=1e-4).mean()) + 0.5 * (
            1 - lncc(F.avg_pool2d(half, 2), F.avg_pool2d(half_x, 2), eps=1e-4).mean())
        parts["brightness"] = tone.loss(fake, rows, organ, h)
        parts["black"] = black_energy(x, fake) + black_energy(y, out)
        parts["gaps"] = gap_energy(x, fake)
        parts["columns"] = column_energy(x, fake)
        parts["dark"] = dark_energy(t, out)
        dim = (local_mean(x, 9) < 2 / 255).float()
        parts["dots"] = (F.relu(fake - x - 8 / 255) * dim).mean()
        parts["replay"] = torch.sqrt((out - t) ** 2 + 1e-4).mean() + 0.1 * (1 - ssim(out, t).mean()) + 0.05 * coarse(out, t)
        if dots:
            parts["points"] = ((centroids(out[0, 0], dots) - centroids(y[0, 0], dots)) ** 2).mean()
        if same is not None:
            same = same.float()
            # (the coarse share is small: more of it holds the brightness of handheld images down, too)
            parts["identity"] = 2 * (torch.sqrt((same - good) ** 2 + 1e-5).mean() + 0.2 * coarse(same[1:], good[1:]))
        loss = sum(getattr(a, f"w_{k}") * v for k, v in parts.items() if hasattr(a, f"w_{k}"))
        og.zero_grad(set_to_none=True)
        loss.backward()
        norm = nn.utils.clip_grad_norm_(net.parameters(), 10.0)
        step_if_finite(og, norm)
        ema.update(net, step + 1000)
        step += 1
        parts["judges"], parts["norm"] = d_loss.detach(), norm
        for k, v in parts.items():
            totals.setdefault(k, []).append(v.detach())  # read later: reading makes the next step wait for this one
        item = ahead.next()
        if step % 100 == 0:
            text = " ".join(f"{k} {np.mean([float(v) for v in values]):.4f}" for k, values in totals.items())
            print(f"{time.strftime('%H:%M:%S')} step {step} s/step {(clock.spent - spent) / 100:.3f} {text}", file=log)
            totals, spent = {}, clock.spent


if __name__ == "__main__":
    main()
