"""Whole-batch transforms that lesson 6 uses without building them, and their base.

Every transform draws for each image of a batch on its own (`draw`) and then computes
with all of them at once (`apply`); given the same draws, torchvision's v2 has the same
result. `d2lext.batch` (lesson 6) has the other transforms, and these names, too.
"""

import contextlib
import inspect
import math
from collections.abc import Sequence
from numbers import Real

import torch
from torch.utils.data._utils.collate import default_collate_fn_map

import d2lext
from d2lext import expect

__all__ = [
    "Batch",
    "ColorJitter",
    "Normalize",
    "PerImage",
    "RandomErasing",
    "Transform",
    "draw_boxes",
    "draw_place",
    "full_precision",
    "onto",
    "pick",
    "to_float",
    "uniform",
]

# Helpers


def to_float(X: torch.Tensor) -> torch.Tensor:
    """A batch as float32; uint8 is divided by 255, as `ToTensor` does."""
    return X.float().div_(255) if X.dtype == torch.uint8 else X.float()


def uniform(low, high, shape, generator=None) -> torch.Tensor:
    """Numbers of float32 between low and high, drawn on the CPU."""
    x = torch.empty(shape, device="cpu", dtype=torch.float32)
    return x.uniform_(low, high, generator=generator)


def onto(device: torch.device, *tensors: torch.Tensor) -> list[torch.Tensor]:
    """Tensors on a device. On the way to CUDA nothing waits: they are pinned."""
    if device.type != "cuda":
        return [t.to(device) for t in tensors]
    pinned = (t if t.is_cuda else t.pin_memory() for t in tensors)
    return [t.to(device, non_blocking=True) for t in pinned]


def pick(X: torch.Tensor, i: torch.Tensor) -> torch.Tensor:
    """Images i of a batch; faster than X[i], which walks over single pixels."""
    return X.index_select(0, *onto(X.device, i))


def full_precision(device: torch.device) -> contextlib.AbstractContextManager:
    """Turn off autocast, which would compute products with 8 bits."""
    if torch.amp.is_autocast_available(device.type):
        return torch.autocast(device.type, enabled=False)
    return contextlib.nullcontext()


def draw_boxes(n, area, scale, ratio, generator=None) -> tuple:
    """Ten boxes for each of n images: two sides, int64 (10, n) each.

    scale: range of a box's fraction of `area`; ratio: range of the first side divided
    by the second, drawn log-uniformly.
    """
    areas = area * uniform(*scale, (10, n), generator)
    ratios = uniform(math.log(ratio[0]), math.log(ratio[1]), (10, n), generator).exp()
    first, second = areas * ratios, areas / ratios
    return first.sqrt().round().long(), second.sqrt().round().long()


def draw_place(spare: torch.Tensor, generator=None) -> torch.Tensor:
    """An integer from 0 to `spare` for each image."""
    return (uniform(0, 1, spare.shape, generator) * (spare + 1)).long()


class Batch(tuple):
    """A batch (X, y) that is ready: a DataLoader's default collation hands it on."""


def _hand_on(batches, *, collate_fn_map=None):
    if len(batches) == 1:
        return tuple(batches[0])
    return tuple(map(torch.cat, zip(*batches, strict=True)))


default_collate_fn_map[Batch] = _hand_on


# The base


class Transform:
    """What whole-batch transforms share: one call, one draw for each image."""

    size: tuple[int, int] | None = None  # of the result; None: that of the input
    channels: tuple[int, ...] = (1, 2, 3, 4)
    colors: bool = False  # whether it computes with colours, and needs 0 to 1
    normalizes: bool = False  # whether it leaves colours outside of 0 to 1
    generator: torch.Generator | None = None  # only `Compose` has one

    def draw(self, n: int, height: int, width: int, generator=None) -> dict:
        """Draw for n images: tensors of length n on the CPU, by name."""
        raise NotImplementedError

    def draw_for(self, i, epoch, height, width, generator=None) -> dict:
        """Draw for images i of a data set, an int64 tensor, in an epoch."""
        return self.draw(len(i), height, width, generator)

    def apply(self, X: torch.Tensor, params: dict) -> torch.Tensor:
        """Return a new batch, changed as `draw` said."""
        raise NotImplementedError

    def __call__(self, X: torch.Tensor, generator=None) -> torch.Tensor:
        """Augment a batch (n, c, h, w), uint8 or floats in [0, 1], on its device.

        Raises TypeError or ValueError for what is no batch, or does not fit.
        """
        expect.batch(X, self.channels)
        if self.colors:
            expect.colors(X)
        params = self.draw(len(X), *X.shape[2:], expect.generator(generator))
        with full_precision(X.device):
            return self.apply(X, params)

    def keep(self, X: torch.Tensor) -> torch.Tensor:
        """Return what a data set should keep in memory, made from all its images."""
        return X

    def take(self, kept: torch.Tensor, i: torch.Tensor, params: dict) -> torch.Tensor:
        """Return images i, augmented, from what `keep` returned."""
        return self.apply(pick(kept, i), params)

    def dataset(self, X, y, device=None):
        """Return images X with labels y as a `BatchDataset`."""
        return d2lext.batch.BatchDataset(X, y, self, device)

    def __repr__(self) -> str:
        names = set(inspect.signature(type(self)).parameters) - {"generator"}
        settings = (f"{k}={v!r}" for k, v in vars(self).items() if k in names)
        return f"{type(self).__name__}({', '.join(settings)})"


# Colours

_KNOBS = ("brightness", "contrast", "saturation", "hue")


def _knob(name, value, center, high):
    """The range of a factor; None if it would change nothing."""
    if value is None:
        return None
    if isinstance(value, Real):
        x = expect.number(name, value)
        value = (center - x if center == 0 else max(center - x, 0), center + x)
    value = expect.interval(name, value, -high if center == 0 else 0, high)
    return None if value == (center, center) else value


class ColorJitter(Transform):
    """Change brightness, contrast, saturation and hue, in random order; float32.

    A number x draws a factor from [max(0, 1 - x), 1 + x] (hue: from [-x, x], at most
    0.5), a pair (min, max) from there, None leaves the knob alone.
    """

    channels = (1, 3)
    colors = True

    def __init__(self, brightness=None, contrast=None, saturation=None, hue=None):
        self.brightness = _knob("brightness", brightness, 1, math.inf)
        self.contrast = _knob("contrast", contrast, 1, math.inf)
        self.saturation = _knob("saturation", saturation, 1, math.inf)
        self.hue = _knob("hue", hue, 0, 0.5)

    def draw(self, n, height, width, generator=None):
        params = {"order": uniform(0, 1, (n, 4), generator).argsort(1)}
        for name in _KNOBS:
            if (ends := getattr(self, name)) is not None:
                params[name] = uniform(*ends, n, generator)
        return params

    def apply(self, X, params):
        """All but hue are matrices, and the knob of a matrix does not matter.

        So the images are sorted by hue's place among their turns: before hue the
        k-th matrix is due for the last so many of them, and after it for the others.
        """
        mine = [k for k in range(3) if _KNOBS[k] in params]  # those that are turned
        order = params["order"]
        order = order[torch.isin(order, order.new_tensor([*mine, 3]))].view(len(X), -1)
        place, i = (order == 3).int().argmax(1).sort()  # of hue
        turns = order[i]
        turns = turns[turns != 3].view(-1, len(mine)) if mine else turns[:, :0]
        bounds = place.bincount(minlength=len(mine) + 1).cumsum(0).tolist()
        ones = torch.ones(len(X), device="cpu")
        factors = torch.stack([params.get(name, ones) for name in _KNOBS], 1)[i]
        M, shift = _matrices(turns, factors.gather(1, turns), X.shape[1])
        X = to_float(pick(X, i))
        M, shift, hue, back = onto(X.device, M, shift, factors[:, 3], i.argsort())
        for k in range(len(mine)):
            s = slice(bounds[k], None)
            _turn(X[s], M[s, k], shift[s, k])
        if "hue" in params and X.shape[1] == 3:
            for some, f in zip(X.split(128), hue.split(128), strict=True):
                _hue(some, f)  # of many at once, the numbers would leave the cache
        for k in range(len(mine)):
            s = slice(bounds[k])
            _turn(X[s], M[s, k], shift[s, k])
        return pick(X, back)


def _gray(channels):
    weights = [0.2989, 0.587, 0.114] if channels == 3 else [1.0]
    return torch.tensor(weights, dtype=torch.float32, device="cpu")


def _matrices(knobs, f, channels):
    """What each turn (n, turns) does: matrices and parts of the mean grey to add."""
    contrast, saturation = ((1 - f) * (knobs == k) for k in (1, 2))
    M = f[..., None, None] * torch.eye(channels, dtype=f.dtype, device=f.device)
    # In every row, since all channels get the same grey.
    return M + saturation[..., None, None] * _gray(channels).to(f), contrast


def _turn(X, M, shift):
    (gray,) = onto(X.device, _gray(X.shape[1]))
    offset = (shift * (X.mean((2, 3)) @ gray)).view(-1, 1, 1)
    flat = X.flatten(2)  # (n, c, pixels), the memory of X
    torch.clamp(torch.baddbmm(offset, M, flat), 0, 1, out=flat)


def _hue(X, f):
    """Turn hue: each channel falls from V by a part of D that depends on hue alone."""
    V = X.amax(1, keepdim=True)
    D = V - X.amin(1, keepdim=True)
    r, g, b = X.split(1, dim=1)
    per = 1 / (6 * D).clamp_(min=1e-12)  # gray pixels have no hue, and D = 0
    # By multiplying with 0 or 1: several times faster than torch.where on a CPU.
    h = (r - g).mul_(per).add_(2 / 3)
    h.addcmul_((g == V).to(h), (b - r).mul_(per).add_(1 / 3).sub_(h))
    h.addcmul_((r == V).to(h), (g - b).mul_(per).sub_(h)).add_(f.view(-1, 1, 1, 1))
    opposite = torch.tensor([1 / 2, 5 / 6, 1 / 6], device=X.device)
    u = h - opposite.view(1, 3, 1, 1)
    u = u.sub_(u.round()).abs_()  # 1 is a full round
    torch.addcmul(V, D, u.mul_(-6).add_(2).clamp_(0, 1), value=-1, out=X)


class Normalize(Transform):
    """Subtract a mean and divide by a standard deviation, per channel; float32."""

    channels = (3,)
    normalizes = True

    def __init__(self, mean: Sequence[float], std: Sequence[float]) -> None:
        self.mean = expect.numbers("mean", mean)
        self.std = expect.numbers("std", std, positive=True)

    def draw(self, n, height, width, generator=None):
        return {}

    def apply(self, X, params):
        mean, std = _per_channel(self.mean, X), _per_channel(self.std, X)
        return (to_float(X) - mean).div_(std)


def _per_channel(values, X):
    """Three numbers as float32 (1, 3, 1, 1), on the device of X."""
    return torch.tensor(values, dtype=torch.float32, device=X.device).view(1, 3, 1, 1)


# Erasing


class RandomErasing(Transform):
    """Blank a random box of each image with probability p; float32.

    value: a number, three (one per channel), or "random" for normal noise.
    """

    channels = (3,)

    def __init__(self, p=0.5, scale=(0.02, 0.33), ratio=(0.3, 3.3), value=0) -> None:
        self.p = expect.probability("p", p)
        self.scale = expect.interval("scale", scale, 0, 1)
        self.ratio = expect.interval("ratio", ratio, 1e-6, 1e6)
        if value != "random":
            values = [value] * 3 if isinstance(value, Real) else value
            value = expect.numbers('value (or "random")', values)
        self.value = value

    def draw(self, n, height, width, generator=None):
        h, w = draw_boxes(n, height * width, self.scale, self.ratio, generator)
        fits = (h < height) & (w < width)
        fits &= uniform(0, 1, n, generator) < self.p
        first = fits.int().argmax(0, keepdim=True)
        h, w = (side.gather(0, first)[0] * fits.any(0) for side in (h, w))
        top, left = (draw_place(s, generator) for s in (height - h, width - w))
        params = {"top": top, "left": left, "height": h, "width": w}
        if self.value == "random":
            noise = torch.empty((n, 3, height, width), device="cpu")
            params["value"] = noise.normal_(generator=generator)
        return params

    def apply(self, X, params):
        def inside(start, length, n):  # (n images, n pixels)
            pixels = torch.arange(n, device="cpu") - start[:, None]
            return (pixels >= 0) & (pixels < length[:, None])

        X = to_float(X)
        rows = inside(params["top"], params["height"], X.shape[2])
        cols = inside(params["left"], params["width"], X.shape[3])
        rows, cols = onto(X.device, rows, cols)
        box = rows[:, None, :, None] & cols[:, None, None, :]
        if "value" in params:
            return torch.where(box, *onto(X.device, params["value"]), X)
        return torch.where(box, _per_channel(self.value, X), X)


# One image at a time


class PerImage(Transform):
    """A transform of torchvision, applied to one image at a time: slow, and general.

    transform: takes a tensor (c, h, w) and returns one, of the same size. Raises
    TypeError for what cannot be called, ValueError for a result of another shape.
    """

    def __init__(self, transform) -> None:
        self.transform = expect.function("transform", transform, "v2.RandAugment()")

    def draw(self, n, height, width, generator=None):
        seed = torch.randint(2**62, (n,), generator=generator, device="cpu")
        return {"seed": seed}

    def apply(self, X, params):
        Y = []
        with torch.random.fork_rng(devices=[]):
            for x, seed in zip(X, params["seed"].tolist(), strict=True):
                torch.default_generator.manual_seed(seed)
                Y.append(self.transform(x))
                if Y[-1].shape != x.shape:
                    raise ValueError(
                        f"transform: expected images of shape {tuple(x.shape)} "
                        f"again, got {tuple(Y[-1].shape)}"
                    )
        return torch.stack(Y)
