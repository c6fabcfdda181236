"""Whole-batch transforms that lesson 6 uses without building them, and their base.

Each transform draws separately for each image of a batch (`draw`) and then transforms
all images at once (`apply`). Given the same draws, torchvision's v2 has the same
result. `d2lext.batch` (lesson 6) has the other transforms, and these names, too.
"""

import contextlib
import functools
import inspect
import math
from collections.abc import Sequence

import torch
from torch.nn import functional as F
from torch.utils._pytree import tree_map
from torch.utils.data._utils.collate import default_collate_fn_map
from torchvision.transforms import InterpolationMode, v2
from torchvision.transforms.v2 import functional as TF
from torchvision.tv_tensors import TVTensor

import d2lext
from d2lext import expect

AT_ONCE = 2**17  # pixels
PADDINGS = ("constant", "edge", "reflect", "symmetric")

# Helpers


def to_float(X: torch.Tensor) -> torch.Tensor:
    """A batch as float32; uint8 is divided by 255, as `ToTensor` does."""
    return X.float().div_(255) if X.dtype == torch.uint8 else X.float()


def uniform(low, high, shape, generator=None) -> torch.Tensor:
    """Numbers of float32 between low and high, drawn on the CPU."""
    x = torch.empty(shape, device="cpu", dtype=torch.float32)
    return x.uniform_(low, high, generator=generator)


def onto(device: torch.device, *tensors: torch.Tensor) -> list[torch.Tensor]:
    """Move tensors to a device; to CUDA from pinned memory, without waiting."""
    if device.type != "cuda":
        return [t.to(device) for t in tensors]
    pinned = (t if t.is_cuda else t.pin_memory() for t in tensors)
    return [t.to(device, non_blocking=True) for t in pinned]


def constant(values: tuple[float, ...], device: torch.device) -> torch.Tensor:
    """Numbers as float32 (n, 1, 1) on a device, to which they are copied once."""
    made = _constant.__wrapped__ if torch.compiler.is_compiling() else _constant
    return made(values, device)


@functools.cache
def _constant(values, device):
    with torch.inference_mode(False):  # others may need them for gradients
        x = torch.tensor(values, dtype=torch.float32, device="cpu").view(-1, 1, 1)
        return onto(device, x)[0]


def pick(X: torch.Tensor, i: torch.Tensor) -> torch.Tensor:
    """Images i of a batch; faster than X[i], which walks over single pixels."""
    return X.index_select(0, *onto(X.device, i))


def cut_one_by_one(X, top, left, size) -> torch.Tensor:
    """Windows (n, c, *size) of a batch, cut one by one: slow, but with gradients."""
    h, w = size
    places = zip(X, top.tolist(), left.tolist(), strict=True)
    return torch.stack([x[:, i : i + h, j : j + w] for x, i, j in places])


def resized_one_by_one(X, boxes, size, interpolation, antialias) -> torch.Tensor:
    """Boxes (top, left, height, width) of a batch, resized; float32.

    Images of uint8 are rounded to uint8 before they become floats, as in torchvision.
    """
    mode = InterpolationMode(interpolation)  # torchvision 0.19 takes no names
    as_bytes = X.dtype == torch.uint8 and X.device.type == "cpu"

    def resized(x):
        if as_bytes and interpolation == "bilinear":  # as torchvision with AVX2
            x = x[None].contiguous(memory_format=torch.channels_last)
            return F.interpolate(x, size, mode="bilinear", antialias=antialias)[0]
        return TF.resize_image(x, size, mode, antialias=antialias)

    crops = (
        x[:, top : top + h, left : left + w]
        for x, (top, left, h, w) in zip(X, boxes.tolist(), strict=True)
    )
    return to_float(torch.stack([resized(x) for x in crops]))


def full_precision(device: torch.device) -> contextlib.AbstractContextManager:
    """Turn off autocast, which would compute products with 8 bits."""
    if torch.amp.is_autocast_available(device.type):
        return torch.autocast(device.type, enabled=False)
    return contextlib.nullcontext()


def in_parts(step, X: torch.Tensor, *others: torch.Tensor) -> torch.Tensor:
    """step(X, *others), on as many images at once as fit in a core's cache."""
    n = max(1, AT_ONCE // X[0, 0].numel()) if X.device.type == "cpu" else len(X)
    parts = zip(*(t.split(n) for t in (X, *others)), strict=True)
    done = [step(*part) for part in parts]
    return done[0] if len(done) == 1 else torch.cat(done)


def draw_boxes(n, area, scale, ratio, generator=None) -> tuple:
    """Ten boxes for each of n images: two sides, int64 (10, n) each.

    scale: range of a box's fraction of `area`.
    ratio: range of the first side divided by the second, drawn log-uniformly.
    """
    areas = area * uniform(*scale, (10, n), generator)
    ratios = uniform(math.log(ratio[0]), math.log(ratio[1]), (10, n), generator).exp()
    first, second = areas * ratios, areas / ratios
    return first.sqrt().round().long(), second.sqrt().round().long()


def draw_place(spare: torch.Tensor, generator=None) -> torch.Tensor:
    """An integer from 0 to `spare` for each image."""
    return (uniform(0, 1, spare.shape, generator) * (spare + 1)).long()


class Batch(tuple):
    """A finished batch (X, y), which a DataLoader's default collation passes on."""


def _hand_on(batches, *, collate_fn_map=None):
    if len(batches) == 1:
        return tuple(batches[0])
    return tuple(map(torch.cat, zip(*batches, strict=True)))


default_collate_fn_map[Batch] = _hand_on


# The base


class Transform:
    """The base of whole-batch transforms: one call, and a draw for each image."""

    size: tuple[int, int] | None = None  # of the result; None: that of the input
    channels: tuple[int, ...] = (1, 2, 3, 4)
    colors: bool = False  # whether it needs colours from 0 to 1
    normalizes: bool = False  # whether its results leave 0 to 1
    takes: torch.dtype | None = None  # None: uint8 and floats
    floats: bool = False  # whether it makes floats of uint8
    generator: torch.Generator | None = None  # only `Compose` has one

    def draw(self, n: int, height: int, width: int, generator=None) -> dict:
        """Draw for n images: tensors of length n on the CPU, by name."""
        raise NotImplementedError

    def draw_for(self, i, epoch, height, width, generator=None) -> dict:
        """Draw for images i of a data set, an int64 tensor, in an epoch."""
        return self.draw(len(i), height, width, generator)

    def apply(self, X: torch.Tensor, params: dict) -> torch.Tensor:
        """Return a new batch, transformed with these draws."""
        raise NotImplementedError

    def __call__(self, X: torch.Tensor, generator=None) -> torch.Tensor:
        """Augment a batch (n, c, h, w), uint8 or floats in [0, 1], on its device.

        Raises TypeError or ValueError for an invalid batch.
        """
        expect.batch(X, self.channels)
        if self.colors and not torch.compiler.is_compiling():  # depends on the values
            expect.colors(X)
        params = self.draw(len(X), *X.shape[2:], expect.generator(generator))
        with full_precision(X.device):
            if not isinstance(X, TVTensor):
                return self.apply(X, params)
            return self.apply(X.as_subclass(torch.Tensor), params).as_subclass(type(X))

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
_GRAY = {1: (1.0,), 3: (0.2989, 0.587, 0.114)}


class ColorJitter(Transform):
    """Change brightness, contrast, saturation and hue, in random order; float32.

    Each argument is a number x, for a factor from [max(0, 1 - x), 1 + x] (hue: from
    [-x, x], at most 0.5), a pair (min, max) for a factor between, or None for none.
    """

    channels = (1, 3)
    colors = floats = True

    def __init__(self, brightness=None, contrast=None, saturation=None, hue=None):
        theirs = v2.ColorJitter(brightness, contrast, saturation, hue)
        for name in _KNOBS:  # None where it would change nothing
            if (ends := getattr(theirs, name)) is not None:
                ends = expect.interval(name, ends, -0.5, math.inf)
            setattr(self, name, ends)

    def draw(self, n, height, width, generator=None):
        used = [k for k in range(4) if k == 3 or getattr(self, _KNOBS[k])]
        order = uniform(0, 1, (n, 4), generator)[:, used].argsort(1)
        params = {"order": torch.tensor(used, device="cpu")[order]}
        for name in _KNOBS:
            if (ends := getattr(self, name)) is not None:
                params[name] = uniform(*ends, n, generator)
        return params

    def apply(self, X, params):
        ones = torch.ones(len(X), dtype=torch.float32, device="cpu")
        factors = torch.stack([params.get(name, ones) for name in _KNOBS], 1)  # (n, 4)
        jitter = functools.partial(_jitter, hue="hue" in params)
        return in_parts(jitter, X, params["order"], factors)


def _jitter(X, order, factors, hue):
    """Change some images in their own order (n, turns), by factors (n, 4).

    Each change but hue is a matrix, whichever it is. The images are sorted by hue's
    place in their order. Then matrix k comes before hue for the last ones, a slice of
    the batch, and after hue for the rest.
    """
    place, i = (order == 3).int().argmax(1).sort()
    order, factors = order[i], factors[i]
    k = torch.arange(order.shape[1] - 1, device="cpu")  # of the matrices
    knobs = order.gather(1, k + (k >= place[:, None]))  # all but hue
    f = factors.gather(1, knobs)
    shift, mixed = ((1 - f) * (knobs == k) for k in (1, 2))  # contrast, saturation
    gray = constant(_GRAY[X.shape[1]], f.device).flatten()
    eye = torch.eye(len(gray), dtype=f.dtype, device="cpu")
    M = f[..., None, None] * eye + mixed[..., None, None] * gray  # (n, turns, c, c)
    later = place > k[:, None]  # (turns, n)
    *turns, f, back = onto(X.device, M, shift, gray, factors[:, 3], i.argsort())
    X = _turn(to_float(pick(X, i)), *turns, later, last=True)
    if hue and X.shape[1] == 3:
        X = _hue(X, f.view(-1, 1, 1, 1))
    return pick(_turn(X, *turns, ~later, last=False), back)


def _turn(X, M, shift, gray, due, last):
    """Apply matrix k to the images where due[k] is true, the last or the first ones.

    shift: how much of the mean gray value matrix k adds, (n, turns).
    """
    for k, whom in enumerate(due):
        compiled = torch.compiler.is_compiling()  # lengths may not depend on values
        count = len(X) if compiled else int(whom.sum())
        s = slice(len(X) - count, None) if last else slice(count)
        offset = (X[s].mean((2, 3)) * gray).sum(1) * shift[s, k]
        Y = torch.baddbmm(offset.view(-1, 1, 1), M[s, k], X[s].flatten(2))
        Y = Y.view_as(X[s])
        if compiled:
            X = torch.where(*onto(X.device, whom.view(-1, 1, 1, 1)), Y.clamp(0, 1), X)
        elif Y.requires_grad:
            X[s] = Y.clamp(0, 1)
        else:
            torch.clamp(Y, 0, 1, out=X[s])
    return X


def _hue(X, f):
    """Shift hue: a channel is V less a fraction of D that depends on the hue alone."""
    V = X.amax(1, keepdim=True)
    D = V - X.amin(1, keepdim=True)
    r, g, b = X.split(1, dim=1)
    per = 1 / (6 * D).clamp_(min=1e-12)  # gray pixels have no hue, and D = 0
    # Multiplying by 0 or 1 is several times faster than torch.where on a CPU.
    h = (r - g).mul_(per).add_(2 / 3)
    h.addcmul_((g == V).to(h), (b - r).mul_(per).add_(1 / 3).sub_(h))
    h.addcmul_((r == V).to(h), (g - b).mul_(per).sub_(h)).add_(f)
    u = h - constant((1 / 2, 5 / 6, 1 / 6), X.device)
    u = u.sub_(u.round()).abs_()  # 1 is a full turn
    return torch.addcmul(V, D, u.mul_(-6).add_(2).clamp_(0, 1), value=-1)


class Normalize(Transform):
    """Subtract a mean and divide by a standard deviation, per channel; float32."""

    normalizes = floats = True

    def __init__(self, mean: Sequence[float], std: Sequence[float]) -> None:
        self.mean = expect.numbers("mean", mean, (1, 2, 3, 4))
        self.std = expect.numbers("std", std, (1, 2, 3, 4), positive=True)

    def draw(self, n, height, width, generator=None):
        return {}

    def apply(self, X, params):
        mean, std = (
            constant(expect.per_channel(name, getattr(self, name), X), X.device)
            for name in ("mean", "std")
        )
        fresh = X.dtype != torch.float32  # converted: nobody else has it
        X = to_float(X)
        return (X.sub_(mean) if fresh else X - mean).div_(std)


# Erasing


class RandomErasing(Transform):
    """Fill a random box of each image with probability p; float32.

    value: a number, or one per channel (for noise, PerImage with torchvision's).
    """

    floats = True

    def __init__(self, p=0.5, scale=(0.02, 0.33), ratio=(0.3, 3.3), value=0) -> None:
        self.p = expect.number("p", p, 0, 1)
        self.scale = expect.interval("scale", scale, 0, 1)
        self.ratio = expect.interval("ratio", ratio, 1e-6, 1e6)
        self.value = expect.fill("value", value)

    def draw(self, n, height, width, generator=None):
        h, w = draw_boxes(n, height * width, self.scale, self.ratio, generator)
        fits = (h < height) & (w < width)
        fits &= uniform(0, 1, n, generator) < self.p
        first = fits.int().argmax(0, keepdim=True)
        h, w = (side.gather(0, first)[0] * fits.any(0) for side in (h, w))
        top, left = (draw_place(s, generator) for s in (height - h, width - w))
        return {"top": top, "left": left, "height": h, "width": w}

    def apply(self, X, params):
        value = constant(expect.per_channel("value", self.value, X), X.device)
        large = X.device.type == "cpu" and X[0, 0].numel() >= 64 * 64
        if large and not (X.requires_grad or torch.compiler.is_compiling()):
            X, boxes = to_float(X.clone()), torch.stack(list(params.values()), 1)
            for x, (top, left, h, w) in zip(X, boxes.tolist(), strict=True):
                x[:, top : top + h, left : left + w] = value
            return X
        top, left, h, w = (t[:, None] for t in onto(X.device, *params.values()))
        y, x = (torch.arange(k, device=X.device) for k in X.shape[2:])
        rows, columns = (y >= top) & (y < top + h), (x >= left) & (x < left + w)
        box = rows[:, None, :, None] & columns[:, None, None]
        return torch.where(box, value, to_float(X))


# One or the other


def by_choice(X, choice, steps) -> torch.Tensor:
    """Transform image i with steps[choice[i]]; a step takes (images, indices)."""
    everyone = torch.arange(len(X), device="cpu")
    if torch.compiler.is_compiling():  # shapes may not depend on values
        done = torch.stack([step(X, everyone) for step in steps])
        return done[(*onto(X.device, choice, everyone),)]
    groups = [everyone[choice == k] for k in range(len(steps))]
    done = [s(pick(X, i), i) for s, i in zip(steps, groups, strict=True) if len(i)]
    return pick(torch.cat(done), torch.cat(groups).argsort())


class RandomChoice(Transform):
    """Apply one of several transforms to each image, with probabilities p; float32.

    p: a number >= 0 for each transform; None: all are equally likely.
    """

    floats = True

    def __init__(self, transforms: Sequence[Transform], p=None) -> None:
        expect.at_least("transforms", expect.transforms(transforms, Transform), 1)
        self.transforms, self.p, n = transforms, p, len(transforms)
        self._weights = expect.chances("p", [1] * n if p is None else p, n)
        self._parts, self.size = transforms, transforms[0].size
        expect.merge(self, transforms)

    def draw_for(self, i, epoch, height, width, generator=None):
        expect.one_size("transforms", [t.size or (height, width) for t in self._parts])
        weights = torch.tensor(self._weights, dtype=torch.float32, device="cpu")
        choice = torch.multinomial(weights, len(i), True, generator=generator)
        each = [t.draw_for(i, epoch, height, width, generator) for t in self._parts]
        return {"choice": choice, "each": each}

    def draw(self, n, height, width, generator=None):
        return self.draw_for(torch.arange(n, device="cpu"), 0, height, width, generator)

    def apply(self, X, params):
        def step(part, drawn, X, i):
            return to_float(part.apply(X, tree_map(lambda x: x[i], drawn)))

        each = zip(self._parts, params["each"], strict=True)
        steps = [functools.partial(step, *one) for one in each]
        return by_choice(X, params["choice"], steps)


class RandomApply(RandomChoice):
    """Apply transforms in turn to each image, or none of them; float32.

    p: the probability of applying them.
    """

    def __init__(self, transforms: Sequence[Transform], p: float = 0.5) -> None:
        parts = [d2lext.batch.Compose(transforms), d2lext.batch.Compose([])]
        expect.at_least("transforms", transforms, 1)
        super().__init__(parts, (expect.number("p", p, 0, 1), 1 - p))
        self.transforms, self.p = transforms, p


# Geometry


def _inverse(angle, translate, scale, shear, center) -> torch.Tensor:
    """Matrices (n, 2, 3) that map new pixels to old ones, as torchvision's do.

    All are float64: angle (degrees) and scale (n,), shear (degrees), translate and
    center (pixels; center from the middle of the image) (n, 2).
    """
    rot, (sx, sy) = angle.deg2rad(), shear.deg2rad().unbind(1)
    a, c = (rot - sy).cos() / sy.cos(), (rot - sy).sin() / sy.cos()
    b, d = -(a * sx.tan() + rot.sin()), rot.cos() - c * sx.tan()
    M = torch.stack([d, -b, -c, a], 1).view(-1, 2, 2) / scale.view(-1, 1, 1)
    moved = (M * (center + translate)[:, None]).sum(2)
    return torch.cat([M, (center - moved)[..., None]], 2)


def warp(X, matrices, interpolation="nearest", fill=None) -> torch.Tensor:
    """Warp images by matrices (n, 2, 3) from new pixels to old; uint8 stays uint8."""
    if interpolation == "nearest" and fill is not None and not any(fill):
        fill = None  # zeros are the default
    how = {"interpolation": interpolation, "fill": fill}
    return in_parts(functools.partial(_warp, **how), X, matrices)


def _warp(X, matrices, interpolation, fill):
    (n, c, h, w), kind = X.shape, X.dtype
    X = X if kind == torch.float64 else X.float()
    sides = (torch.arange(k, device=X.device).to(X) - (k - 1) / 2 for k in (h, w))
    y, x = torch.meshgrid(*sides, indexing="ij")
    places = torch.stack([x, y, torch.ones_like(x)], 2).view(1, h * w, 3)
    theta = matrices.to(X.dtype).mT  # (n, 3, 2)
    (theta,) = onto(X.device, theta / theta.new_tensor([w / 2, h / 2]))
    grid = places.expand(n, -1, -1).bmm(theta).view(n, h, w, 2)
    if fill is not None:
        fill = constant(expect.per_channel("fill", fill, X), X.device).to(X)
        X = torch.cat([X, torch.ones_like(X[:, :1])], 1)
    X = F.grid_sample(X, grid, interpolation, "zeros", align_corners=False)
    if fill is not None:
        X, inside = X[:, :c], X[:, c:]
        if interpolation == "nearest":
            X = torch.where(inside < 0.5, fill, X)
        else:
            X = (X - fill) * inside + fill
    return X if kind.is_floating_point else X.round_().to(kind)


class RandomAffine(Transform):
    """Rotate, shift, scale and shear each image; arguments as torchvision's.

    Raises what torchvision's constructor raises; ValueError if a number is not finite.
    """

    def __init__(
        self, degrees, translate=None, scale=None, shear=None, interpolation="nearest",
        fill=0, center=None
    ) -> None:  # fmt: skip
        theirs = v2.RandomAffine(degrees, translate, scale, shear, center=center)
        for name in ("degrees", "translate", "scale", "shear", "center"):
            value = getattr(theirs, name)
            if value is not None:
                value = expect.numbers(name, value, (2, 4))
            setattr(self, name, value)
        self.interpolation, self.fill = _of_grids(interpolation, fill)

    def draw(self, n, height, width, generator=None):
        def drawn(low, high):
            return uniform(low, high, n, generator).double()

        shear = [*(self.shear or ()), 0, 0, 0, 0][:4]
        x, y = self.translate or (0, 0)
        shift = [drawn(-k, k).round() for k in (x * width, y * height)]
        return {
            "angle": drawn(*self.degrees),
            "translate": torch.stack(shift, 1),
            "scale": drawn(*(self.scale or (1, 1))),
            "shear": torch.stack([drawn(*shear[:2]), drawn(*shear[2:])], 1),
        }

    def apply(self, X, params):
        h, w = X.shape[2:]
        x, y = self.center or (w / 2, h / 2)
        center = params["shear"].new_tensor([[x - w / 2, y - h / 2]])
        matrices = _inverse(**params, center=center)
        return warp(X, matrices, self.interpolation, self.fill)


def _of_grids(interpolation, fill):
    name = expect.interpolation("interpolation", interpolation)
    expect.choice("interpolation", name, ("nearest", "bilinear"))
    return name, None if fill is None else expect.fill("fill", fill)


class RandomRotation(RandomAffine):
    """Rotate each image by an angle of its own, as torchvision's without `expand`."""

    def __init__(
        self, degrees, interpolation="nearest", expand=False, center=None, fill=0
    ) -> None:
        if expand:
            raise ValueError(
                "expand: expected False, since images of a batch have one size; or use "
                "PerImage with a Resize after the rotation"
            )
        super().__init__(degrees, None, None, None, interpolation, fill, center)
        self.expand = expand

    def apply(self, X, params):  # in torchvision, the two turn in opposite directions
        return super().apply(X, params | {"angle": -params["angle"]})


# Policies


class TrivialAugmentWide(Transform):
    """Apply one of 14 operations at a random strength to each image, as torchvision's.

    Takes and returns uint8; put it before transforms that return floats.
    """

    channels, takes = (1, 3), torch.uint8
    num_ops, magnitude = 1, None  # None: a random one for each image

    def __init__(
        self, num_magnitude_bins=31, interpolation="nearest", fill=None
    ) -> None:
        bins = expect.integer("num_magnitude_bins", num_magnitude_bins, 2)
        self.num_magnitude_bins = bins
        self.interpolation, self.fill = _of_grids(interpolation, fill)

    def _most(self, height, width):
        """The largest shear, shifts to the right and down, rotation, colour, bits."""
        return 0.99, 32, 32, 135, 0.99, 6

    def draw(self, n, height, width, generator=None):
        how = {"generator": generator, "device": "cpu"}
        shape, count = (n, self.num_ops), self.num_magnitude_bins
        op = torch.randint(len(_OPERATIONS), shape, **how)
        if (bins := self.magnitude) is None:
            bins = torch.randint(count, shape, **how)
        shear, x, y, angle, color, bits = self._most(height, width)
        first = *[0] * 10, 8, 1, 0, 0  # magnitudes in the first bin, and in the last
        last = 0, shear, shear, x, y, angle, *[color] * 4, 8 - bits, 0, 0, 0
        how = {"dtype": torch.float32, "device": "cpu"}
        ends = zip(first, last, strict=True)
        m = torch.stack([torch.linspace(*both, count, **how) for both in ends])
        m = m[op, bins]
        m = torch.where(op == 10, m.round(), m)  # bits of Posterize
        minus = (uniform(0, 1, shape, generator) < 0.5) & (op > 0) & (op < 10)
        return {"op": op, "magnitude": torch.where(minus, -m, m)}

    def apply(self, X, params):
        X = expect.bytes_first(X, type(self).__name__)
        X = X if self.num_ops else X.clone()
        for op, m in zip(*(params[k].unbind(1) for k in params), strict=True):
            each = _OPERATIONS.values()
            steps = [functools.partial(self._step, f, op, m) for f in each]
            moves = (op > 0) & (op < 6)  # all of them in one step
            X = by_choice(X, torch.where(moves, 1, op), steps)
        return X

    def _step(self, function, op, m, X, i):
        if function is None:
            matrices = _moves(op[i], m[i], *X.shape[2:])
            return warp(X, matrices, self.interpolation, self.fill)
        return function(X, *onto(X.device, m[i].view(-1, 1, 1, 1)))


class RandAugment(TrivialAugmentWide):
    """Apply several of 14 operations, at one strength, to each image; takes uint8."""

    def __init__(
        self, num_ops=2, magnitude=9, num_magnitude_bins=31, interpolation="nearest",
        fill=None
    ) -> None:  # fmt: skip
        super().__init__(num_magnitude_bins, interpolation, fill)
        self.num_ops = expect.integer("num_ops", num_ops, 0)
        high = num_magnitude_bins - 1
        self.magnitude = expect.integer("magnitude", magnitude, 0, high)

    def _most(self, height, width):
        return 0.3, 150.0 / 331.0 * width, 150.0 / 331.0 * height, 30, 0.9, 4


def _moves(op, m, height, width):
    """Matrices of moves (shears, shifts, rotations) (n,) with magnitudes (n,)."""
    m = m.double()
    x, y, right, down, angle = (m * (op == k) for k in range(1, 6))
    shear = torch.stack([x, y], 1)
    shift = torch.stack([right, down], 1).trunc()
    center = m.new_tensor([-width / 2, -height / 2])
    center = center * (shear != 0).any(1, keepdim=True)  # as in torchvision
    return _inverse(-angle, shift, torch.ones_like(m), shear.atan().rad2deg(), center)


def _clip(Y):
    return Y.clamp_(0, 255).byte()


def _blend(X, other, m):
    """(1 + m) X - m other, rounded as torchvision rounds."""
    return _clip(torch.addcmul(X * (1 + m), other, -m))


def _gray_image(X):
    return X.float() if X.shape[1] == 1 else TF.rgb_to_grayscale(X.float()).floor_()


def _sharpness(X, m):
    Y = X.float()
    if min(X.shape[2:]) > 2:
        kernel = constant((1 / 13,) * 4 + (5 / 13,) + (1 / 13,) * 4, X.device)
        kernel = kernel.view(3, 3).expand(X.shape[1], 1, 3, 3)
        blurred, inner = F.conv2d(Y, kernel, groups=X.shape[1]), Y[..., 1:-1, 1:-1]
        inner.addcmul_(blurred.round_() - inner, -m)
    return _clip(Y)


# Functions of images and magnitudes (n, 1, 1, 1), in torchvision's order; moves are
# None. From ShearX to Sharpness magnitudes have a random sign.
_OPERATIONS = {
    "Identity": lambda X, m: X,
    **dict.fromkeys(("ShearX", "ShearY", "TranslateX", "TranslateY", "Rotate")),
    "Brightness": lambda X, m: _clip(X * (1 + m)),
    "Color": lambda X, m: X if X.shape[1] == 1 else _blend(X, _gray_image(X), m),
    "Contrast": lambda X, m: _blend(X, _gray_image(X).mean((1, 2, 3), keepdim=True), m),
    "Sharpness": _sharpness,
    "Posterize": lambda X, m: X & (256 - 2 ** (8 - m.long())).byte(),
    "Solarize": lambda X, m: torch.where(m * 255 <= X, 255 - X, X),
    "AutoContrast": lambda X, m: TF.autocontrast_image(X),
    "Equalize": lambda X, m: TF.equalize_image(X),
}


# One image at a time


class PerImage(Transform):
    """Apply a transform of torchvision to one image at a time: slow, but general.

    transform: takes a tensor (c, h, w) and returns one of the same size.
    Raises TypeError for another object, ValueError for a result of another shape.
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
                        f"transform: expected results of shape {tuple(x.shape)}, "
                        f"got {tuple(Y[-1].shape)}"
                    )
        return torch.stack(Y)
