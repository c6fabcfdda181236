"""Collected from notebooks/06_batch.ipynb, where it is explained.

Edit the lesson, then run `python -m tools.collect`.
"""

import math
from collections.abc import Sequence
from numbers import Real

import torch
from torch.nn import functional as F
from torch.utils.data import Dataset, get_worker_info

__all__ = [
    "BatchDataset",
    "ColorJitter",
    "Compose",
    "Normalize",
    "PerImage",
    "RandomCrop",
    "RandomErasing",
    "RandomHorizontalFlip",
    "RandomResizedCrop",
    "RandomVerticalFlip",
    "Transform",
    "to_float",
]


# 06_batch.ipynb: save-checks
def to_float(X: torch.Tensor) -> torch.Tensor:
    """A batch as float32 from 0 to 1, divided by 255 as `ToTensor` does."""
    return X.float().div_(255) if X.dtype == torch.uint8 else X


def _check_batch(X):
    if not isinstance(X, torch.Tensor) or X.dtype not in (torch.uint8, torch.float32):
        got = X.dtype if isinstance(X, torch.Tensor) else type(X).__name__
        raise TypeError(
            "X: expected a batch, a tensor of uint8 or of float32 from 0 to 1, "
            f"got {got}"
        )
    if X.ndim != 4 or X.shape[1] != 3 or 0 in X.shape:
        raise ValueError(
            f"X: expected a batch of shape (n, 3, height, width), got {tuple(X.shape)}"
        )


def _check_colors(X):
    low, high = (0, 1) if X.dtype == torch.uint8 else map(float, X.aminmax())
    if low < -1e-3 or high > 1 + 1e-3:
        raise ValueError(
            f"X: expected float32 from 0 to 1, got {low:g} to {high:g}; divide "
            "pictures of 0 to 255 by 255, and normalize last"
        )


# 06_batch.ipynb: save-check-arguments
def _check_p(p):
    if not isinstance(p, Real) or not 0 <= p <= 1:
        raise ValueError(f"p: expected a probability from 0 to 1, got {p!r}")
    return p


def _check_range(name, value, low, high):
    """Return a pair of numbers, low <= first <= second <= high."""
    ok = isinstance(value, Sequence) and len(value) == 2
    ok = ok and all(isinstance(v, Real) for v in value)
    if not ok or not low <= value[0] <= value[1] <= high:
        raise ValueError(
            f"{name}: expected two numbers (min, max) from {low} to {high}, "
            f"got {value!r}"
        )
    return tuple(value)


def _check_whole(name, value, lengths, low):
    """Return a tuple of whole numbers; one number alone stands for two."""
    values = (value, value) if isinstance(value, int) else value
    ok = isinstance(values, Sequence) and len(values) in lengths
    if not ok or not all(isinstance(v, int) and v >= low for v in values):
        counts = " or ".join(map(str, lengths))
        raise ValueError(
            f"{name}: expected a whole number >= {low}, or {counts} of them, "
            f"got {value!r}"
        )
    return tuple(values)


# 06_batch.ipynb: save-transform
class Transform:
    """What all transforms of this module share: one call, one draw per picture."""

    size: tuple[int, int] | None = None  # of the result; None: that of the input
    colors: bool = False  # whether it computes with colours, and needs 0 to 1
    generator: torch.Generator | None = None  # only `Compose` has one

    def draw(self, n: int, height: int, width: int, generator=None) -> dict:
        """Draw for n pictures: a dictionary of tensors of length n."""
        raise NotImplementedError

    def apply(self, X: torch.Tensor, params: dict) -> torch.Tensor:
        """Return a new batch, changed as `draw` said."""
        raise NotImplementedError

    def __call__(self, X: torch.Tensor, generator=None) -> torch.Tensor:
        """Augment a batch (n, 3, h, w), uint8 or float32 in [0, 1], on its device.

        Raises TypeError or ValueError for what is no batch, or does not fit.
        """
        _check_batch(X)
        if self.colors:
            _check_colors(X)
        params = self.draw(len(X), *X.shape[2:], generator)
        # In a training step under autocast, products would be computed with 8 bits.
        with torch.autocast(X.device.type, enabled=False):
            return self.apply(X, params)

    def set_epoch(self, epoch: int) -> None:
        """Be told which epoch begins (by `train_epochs`); most do not care."""

    def keep(self, X: torch.Tensor) -> torch.Tensor:
        """Return what a data set should keep in memory, made from all its pictures."""
        return X

    def take(self, kept: torch.Tensor, i: torch.Tensor, params: dict) -> torch.Tensor:
        """Return pictures i, augmented, from what `keep` returned."""
        return self.apply(_pick(kept, i), params)

    def __repr__(self) -> str:
        settings = (
            f"{name}={value!r}"
            for name, value in vars(self).items()
            if value is not None and name != "generator"
        )
        return f"{type(self).__name__}({', '.join(settings)})"

    def dataset(self, X, y, device=None) -> "BatchDataset":
        """Return the pictures X as a data set that hands out augmented batches."""
        return BatchDataset(X, y, self, device)


def _uniform(low, high, shape, generator):
    device = "cpu" if generator is None else generator.device
    return torch.empty(shape, device=device).uniform_(low, high, generator=generator)


def _pick(X, i):
    """Pictures i of a batch; faster than X[i], which walks over single pixels."""
    return X.index_select(0, i.to(X.device))


# 06_batch.ipynb: save-flip
class RandomHorizontalFlip(Transform):
    """Mirror each picture left to right with probability p."""

    axis = -1

    def __init__(self, p: float = 0.5) -> None:
        self.p = _check_p(p)

    def draw(self, n, height, width, generator=None):
        return {"flip": _uniform(0, 1, n, generator) < self.p}

    def keep(self, X):
        n = len(X)
        kept = X.new_empty((2 * n, *X.shape[1:]))
        kept[:n] = X
        for i in range(0, n, 1000):  # all at once would need one more copy
            kept[n + i : n + i + 1000] = X[i : i + 1000].flip(self.axis)
        return kept

    def take(self, kept, i, params):
        flip = params["flip"]
        return _pick(kept, i.to(flip.device) + len(kept) // 2 * flip)

    def apply(self, X, params):
        return self.take(self.keep(X), torch.arange(len(X)), params)


class RandomVerticalFlip(RandomHorizontalFlip):
    """Turn each picture upside down with probability p."""

    axis = -2


# 06_batch.ipynb: save-crop
class RandomCrop(Transform):
    """Cut a window of `size` out of each picture, padded with black.

    padding: one number, (left and right, top and bottom), or (left, top, right,
    bottom).
    """

    def __init__(self, size, padding=None) -> None:
        self.size = _check_whole("size", size, (2,), 1)
        padding = _check_whole("padding", padding or 0, (2, 4), 0)
        self.padding = padding * (4 // len(padding))

    def draw(self, n, height, width, generator=None):
        left, top, right, bottom = self.padding
        spare = (
            height + top + bottom - self.size[0],
            width + left + right - self.size[1],
        )
        if min(spare) < 0:
            raise ValueError(
                f"size: expected a crop that fits into {height} x {width} pictures "
                f"with padding {self.padding}, got {self.size}"
            )
        device = "cpu" if generator is None else generator.device
        top, left = (
            torch.randint(0, s + 1, (n,), generator=generator, device=device)
            for s in spare
        )
        return {"top": top, "left": left}

    def apply(self, X, params):
        left, top, right, bottom = self.padding
        X = F.pad(X, (left, right, top, bottom)).contiguous()
        n, c, H, W = X.shape
        h, w = self.size
        count = X.numel() - (c - 1) * H * W - (h - 1) * W - (w - 1)
        windows = X.as_strided((count, c, h, w), (1, H * W, W, 1))
        top, left = params["top"], params["left"]
        start = torch.arange(n, device=top.device) * (c * H * W) + top * W + left
        return _pick(windows, start)


# 06_batch.ipynb: save-adjust
_KNOBS = ("brightness", "contrast", "saturation", "hue")


def _adjust(X, knob, factors):
    """Turn one knob, 0 to 2, of each picture; knob: (n,), factors: (n, 4), of all."""
    f = factors.gather(1, knob[:, None])[:, 0]
    gray = torch.tensor([0.2989, 0.587, 0.114], device=X.device)
    contrast, saturation = (((1 - f) * (knob == k)).view(-1, 1, 1) for k in (1, 2))
    M = f.view(-1, 1, 1) * torch.eye(3, device=X.device)  # (n, 3, 3)
    M = M + saturation * gray  # in every row, as all channels get the same grey
    offset = contrast * (X.mean((2, 3)) @ gray).view(-1, 1, 1)
    flat = X.flatten(2)  # (n, 3, pixels), the memory of X
    torch.clamp(torch.baddbmm(offset, M, flat), 0, 1, out=flat)


# 06_batch.ipynb: save-hue
def _hue(X, f):
    V = X.amax(1, keepdim=True)
    D = V - X.amin(1, keepdim=True)
    r, g, b = X.split(1, dim=1)
    per = 1 / (6 * D).clamp_(min=1e-12)  # gray pixels have no hue, and D = 0
    # By multiplying with 0 or 1: several times faster than torch.where on a CPU.
    h = (r - g).mul_(per).add_(2 / 3)
    h.addcmul_((g == V).float(), (b - r).mul_(per).add_(1 / 3).sub_(h))
    h.addcmul_((r == V).float(), (g - b).mul_(per).sub_(h)).add_(f)
    opposite = torch.tensor([1 / 2, 5 / 6, 1 / 6], device=X.device)
    u = h - opposite.view(1, 3, 1, 1)
    u = u.sub_(u.round()).abs_()  # 1 is a full round
    torch.addcmul(V, D, u.mul_(-6).add_(2).clamp_(0, 1), value=-1, out=X)


# 06_batch.ipynb: save-jitter
def _knob(name, value, center, low, high):
    """The range of a factor; None if it would change nothing."""
    if value is None:
        return None
    if isinstance(value, Real):
        if value < 0:
            raise ValueError(f"{name}: expected a number >= 0, got {value!r}")
        value = (center - value, center + value)
        value = (max(value[0], low), value[1]) if name != "hue" else value
    value = _check_range(name, value, low, high)
    return None if value == (center, center) else value


class ColorJitter(Transform):
    """Change brightness, contrast, saturation and hue, in random order; float32.

    A number x draws a factor from [max(0, 1 - x), 1 + x] (hue: from [-x, x], at most
    0.5), a pair (min, max) from there, None leaves the knob alone.
    """

    colors = True

    def __init__(self, brightness=None, contrast=None, saturation=None, hue=None):
        self.brightness = _knob("brightness", brightness, 1, 0, math.inf)
        self.contrast = _knob("contrast", contrast, 1, 0, math.inf)
        self.saturation = _knob("saturation", saturation, 1, 0, math.inf)
        self.hue = _knob("hue", hue, 0, -0.5, 0.5)

    def draw(self, n, height, width, generator=None):
        params = {"order": _uniform(0, 1, (n, 4), generator).argsort(1)}
        for name in _KNOBS:
            if (ends := getattr(self, name)) is not None:
                params[name] = _uniform(*ends, n, generator)
        return params

    def apply(self, X, params):
        X, order = to_float(X), params["order"]
        mine = [k for k in range(3) if _KNOBS[k] in params]  # those that are turned
        order = order[torch.isin(order, order.new_tensor([*mine, 3]))].view(len(X), -1)
        ones = torch.ones(len(X), device=order.device)
        factors = torch.stack([params.get(name, ones) for name in _KNOBS], 1)  # (n, 4)
        place, i = (order == 3).int().argmax(1).sort()  # of hue, among its turns
        upto = place.bincount(minlength=len(mine) + 1).cumsum(0).tolist()
        X, drawn = _pick(X, i), (place, order[i], factors[i])
        place, order, factors = (t.to(X.device) for t in drawn)
        for k in range(len(mine)):  # turns before hue
            s = slice(upto[k], None)
            _adjust(X[s], order[s, k], factors[s])
        if "hue" in params:
            f = factors[:, 3].view(-1, 1, 1, 1)
            for some, turn in zip(X.split(128), f.split(128), strict=True):
                _hue(some, turn)  # of many at once, the numbers would leave the cache
        for k in range(len(mine)):  # turns after it
            s = slice(upto[-2 - k])
            _adjust(X[s], order[s].gather(1, place[s, None] + 1 + k)[:, 0], factors[s])
        return _pick(X, i.argsort())


# 06_batch.ipynb: save-weights
def _weights(start, length, n_out, n_in):
    """Bilinear weights (n, n_out, n_in) from windows [start, start + length)."""
    start, length = start.view(-1, 1, 1), length.view(-1, 1, 1)
    device = start.device
    pixels = torch.arange(n_in, device=device) - start + 0.5  # (n, 1, n_in)
    scale = length / n_out
    centers = (torch.arange(n_out, device=device).view(1, -1, 1) + 0.5) * scale
    # When shrinking, each new pixel is a mean over more than its two neighbours.
    W = 1 - (pixels - centers).abs_() / scale.clamp(min=1)
    W = W.clamp_(min=0) * ((pixels > 0) & (pixels < length))
    return W.div_(W.sum(-1, keepdim=True))


# 06_batch.ipynb: save-boxes
def _tries(n, area, scale, ratio, generator):
    """Ten boxes per picture: two sides (10, n) with first / second = ratio."""
    areas = area * _uniform(*scale, (10, n), generator)
    ratios = _uniform(math.log(ratio[0]), math.log(ratio[1]), (10, n), generator).exp()
    first, second = areas * ratios, areas / ratios
    return first.sqrt().round().long(), second.sqrt().round().long()


def _first(fits, tries, otherwise):
    """The first of ten tries (10, n) that fits, else a fixed number; (n,)."""
    first = fits.int().argmax(0, keepdim=True)
    return torch.where(fits.any(0), tries.gather(0, first)[0], otherwise)


def _place(spare, generator):
    """A whole number from 0 to spare, for each picture."""
    return (_uniform(0, 1, spare.shape, generator) * (spare + 1)).long()


# 06_batch.ipynb: save-resized-crop
class RandomResizedCrop(Transform):
    """Stretch a random window of each picture to `size`, bilinearly; float32.

    scale: range of the window's area, as a part of the picture's; ratio: range of
    its width divided by its height, drawn log-uniformly.
    """

    colors = True

    def __init__(self, size, scale=(0.08, 1.0), ratio=(3 / 4, 4 / 3)) -> None:
        self.size = _check_whole("size", size, (2,), 1)
        self.scale = _check_range("scale", scale, 0, math.inf)
        self.ratio = _check_range("ratio", ratio, 1e-6, 1e6)

    def _middle(self, height, width):
        """The size of the window where ten tries did not fit."""
        if width / height < self.ratio[0]:
            return round(width / self.ratio[0]), width
        if width / height > self.ratio[1]:
            return height, round(height * self.ratio[1])
        return height, width

    def draw(self, n, height, width, generator=None):
        w, h = _tries(n, height * width, self.scale, self.ratio, generator)
        fits = (w > 0) & (w <= width) & (h > 0) & (h <= height)
        h, w = (
            _first(fits, tries, side)
            for tries, side in zip((h, w), self._middle(height, width), strict=True)
        )
        found = fits.any(0)
        top, left = (
            torch.where(found, _place(spare, generator), spare // 2)
            for spare in (height - h, width - w)
        )
        return {"top": top, "left": left, "height": h, "width": w}

    def apply(self, X, params):
        X = to_float(X)
        n, c, H, W = X.shape
        box = {name: p.to(X.device) for name, p in params.items()}
        rows = _weights(box["top"], box["height"], self.size[0], H)
        cols = _weights(box["left"], box["width"], self.size[1], W)
        X = torch.bmm(X.reshape(n, c * H, W), cols.mT).view(n, c, H, -1)
        # One channel at a time: `rows[:, None] @ X` would copy the rows' weights.
        Y = torch.stack([torch.bmm(rows, X[:, k]) for k in range(c)], 1)
        return Y.clamp_(0, 1)


# 06_batch.ipynb: save-erasing
def _per_channel(values, X):
    """Three numbers as float32 (1, 3, 1, 1), on the device of X."""
    return torch.tensor(values, dtype=torch.float32, device=X.device).view(1, 3, 1, 1)


class RandomErasing(Transform):
    """Blank a random box of each picture with probability p; float32.

    value: a number, three (one per channel), or "random" for normal noise.
    """

    def __init__(self, p=0.5, scale=(0.02, 0.33), ratio=(0.3, 3.3), value=0) -> None:
        self.p = _check_p(p)
        self.scale = _check_range("scale", scale, 0, 1)
        self.ratio = _check_range("ratio", ratio, 1e-6, 1e6)
        values = [value] * 3 if isinstance(value, Real) else value
        if value != "random" and not (
            isinstance(values, Sequence)
            and len(values) == 3
            and all(isinstance(v, Real) for v in values)
        ):
            raise ValueError(
                f'value: expected a number, three numbers or "random", got {value!r}'
            )
        self.value = values

    def draw(self, n, height, width, generator=None):
        h, w = _tries(n, height * width, self.scale, self.ratio, generator)
        fits = (h < height) & (w < width)
        fits &= _uniform(0, 1, n, generator) < self.p
        h, w = (_first(fits, tries, 0) for tries in (h, w))
        top, left = (_place(s, generator) for s in (height - h, width - w))
        params = {"top": top, "left": left, "height": h, "width": w}
        if self.value == "random":
            noise = torch.empty((n, 3, height, width), device=h.device)
            params["value"] = noise.normal_(generator=generator)
        return params

    def apply(self, X, params):
        def inside(start, length, n):  # (n pictures, n pixels)
            pixels = torch.arange(n, device=start.device) - start[:, None]
            return (pixels >= 0) & (pixels < length[:, None])

        X = to_float(X)
        rows = inside(params["top"], params["height"], X.shape[2])
        cols = inside(params["left"], params["width"], X.shape[3])
        box = (rows[:, None, :, None] & cols[:, None, None, :]).to(X.device)
        if "value" in params:
            return torch.where(box, params["value"].to(X.device), X)
        return torch.where(box, _per_channel(self.value, X), X)


# 06_batch.ipynb: save-normalize
class Normalize(Transform):
    """Subtract a mean and divide by a standard deviation, per channel; float32."""

    def __init__(self, mean: Sequence[float], std: Sequence[float]) -> None:
        for name, values in (("mean", mean), ("std", std)):
            ok = isinstance(values, Sequence) and len(values) == 3
            ok = ok and all(isinstance(v, Real) for v in values)
            if not ok or (name == "std" and min(values) <= 0):
                more = " > 0" if name == "std" else ""
                raise ValueError(
                    f"{name}: expected three numbers{more}, got {values!r}"
                )
        self.mean, self.std = tuple(mean), tuple(std)

    def draw(self, n, height, width, generator=None):
        return {}

    def apply(self, X, params):
        return (to_float(X) - _per_channel(self.mean, X)).div_(
            _per_channel(self.std, X)
        )


# 06_batch.ipynb: save-compose
class Compose(Transform):
    """Apply transforms in turn; draws come from `generator` if one is given."""

    def __init__(self, transforms: Sequence[Transform], generator=None) -> None:
        if not isinstance(transforms, Sequence):
            raise TypeError(
                "transforms: expected a list of transforms, "
                f"got {type(transforms).__name__}"
            )
        for i, t in enumerate(transforms):
            if not isinstance(t, Transform):
                raise TypeError(
                    f"transforms[{i}]: expected a transform of d2lext.batch, got "
                    f"{type(t).__name__} of {type(t).__module__}; leave out ToTensor "
                    "(the data set divides by 255), and wrap others, PerImage(...)"
                )
            if t.colors and any(isinstance(s, Normalize) for s in transforms[:i]):
                raise ValueError(
                    f"transforms[{i}]: {type(t).__name__} needs colours from 0 to 1; "
                    "put Normalize behind it"
                )
        if not isinstance(generator, torch.Generator | None):
            raise TypeError(
                f"generator: expected a torch.Generator, got {type(generator).__name__}"
            )
        self.transforms, self.generator = list(transforms), generator

    @property
    def colors(self):
        return any(t.colors for t in self.transforms)

    @property
    def size(self):
        sizes = [t.size for t in self.transforms if t.size is not None]
        return sizes[-1] if sizes else None

    def draw(self, n, height, width, generator=None):
        params = []
        for t in self.transforms:
            params.append(t.draw(n, height, width, generator or self.generator))
            height, width = t.size or (height, width)
        return params

    def set_epoch(self, epoch):
        for t in self.transforms:
            t.set_epoch(epoch)

    def keep(self, X):
        return self.transforms[0].keep(X) if self.transforms else X

    def take(self, kept, i, params):
        if not self.transforms:
            return _pick(kept, i)
        X = self.transforms[0].take(kept, i, params[0])
        return self._apply(X, params, first=1)

    def apply(self, X, params):
        return self._apply(X, params, first=0)

    def _apply(self, X, params, first):
        for t, p in zip(self.transforms[first:], params[first:], strict=True):
            X = t.apply(X, p)
        return X


# 06_batch.ipynb: save-wrapper
class PerImage(Transform):
    """A transform of torchvision, applied to one picture at a time: slow, and general.

    transform: takes a tensor (3, h, w) and returns one, of the same size. Raises
    TypeError for what cannot be called, ValueError for a result of another shape.
    """

    def __init__(self, transform) -> None:
        if isinstance(transform, type) or not callable(transform):
            raise TypeError(
                "transform: expected a transform of torchvision, such as "
                f"v2.RandAugment(), got {transform!r}"
            )
        self.transform = transform

    def draw(self, n, height, width, generator=None):
        device = "cpu" if generator is None else generator.device
        seed = torch.randint(2**62, (n,), generator=generator, device=device)
        return {"seed": seed}

    def apply(self, X, params):
        Y = []
        with torch.random.fork_rng(devices=[]):
            for x, seed in zip(X, params["seed"].tolist(), strict=True):
                torch.default_generator.manual_seed(seed)
                Y.append(self.transform(x))
                if Y[-1].shape != x.shape:
                    raise ValueError(
                        f"transform: expected pictures of shape {tuple(x.shape)} "
                        f"again, got {tuple(Y[-1].shape)}"
                    )
        return torch.stack(Y)


# 06_batch.ipynb: save-dataset
class BatchDataset(Dataset):
    """Pictures in memory as uint8, handed out as augmented batches.

    X: uint8 (n, h, w, 3), y: int64 (n,), tensors or arrays. A batch is float32
    (b, 3, h, w) and int64 (b,), on `device`. Use it as
    `DataLoader(dataset, batch_size, collate_fn=lambda batch: batch)`.
    """

    def __init__(self, X, y, transform: Transform, device=None) -> None:
        X, y = torch.as_tensor(X), torch.as_tensor(y)
        if X.dtype != torch.uint8 or X.ndim != 4 or X.shape[3] != 3 or 0 in X.shape:
            raise ValueError(
                "X: expected uint8 pictures of shape (n, height, width, 3), "
                f"got {X.dtype} of shape {tuple(X.shape)}"
            )
        if y.dtype != torch.int64 or y.shape != X.shape[:1]:
            raise ValueError(
                f"y: expected {len(X)} labels of int64, one for each picture, "
                f"got {y.dtype} of shape {tuple(y.shape)}"
            )
        try:
            X, self.y = X.permute(0, 3, 1, 2).to(device), y.to(device)
        except (RuntimeError, AssertionError) as error:
            raise ValueError(
                f"device: expected a device of this machine, such as 'cpu', "
                f"got {device!r} ({error})"
            ) from None
        self.transform = transform
        # A crop that does not fit should say so here, not in the first epoch. The
        # generator of its own leaves everybody else's draws as they were.
        transform(X[:1], generator=torch.Generator())
        self.kept, self.picture = transform.keep(X).contiguous(), X.shape[2:]

    def __len__(self) -> int:
        return len(self.y)

    def __getitem__(self, i: int) -> tuple[torch.Tensor, torch.Tensor]:
        X, y = self.__getitems__([range(len(self))[i]])
        return X[0], y[0]

    def __getitems__(self, indices) -> tuple[torch.Tensor, torch.Tensor]:
        if self.transform.generator is not None and get_worker_info() is not None:
            raise RuntimeError(
                "generator: every worker would repeat its draws; "
                "expected num_workers=0, which is faster here anyway"
            )
        i = torch.as_tensor(indices)
        params = self.transform.draw(len(i), *self.picture)
        with torch.autocast(self.kept.device.type, enabled=False):  # as in a call
            X = self.transform.take(self.kept, i, params)
        return to_float(X), _pick(self.y, i)
