"""Collected from notebooks/06_batch.ipynb, where it is explained.

Edit the lesson, then run `python -m tools.collect`.
"""

import math

import torch
from torch.nn import functional as F
from torch.utils.data import Dataset

from d2lext import augment, expect
from d2lext.augment import Transform, onto, pick, to_float, uniform

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
]


# 06_batch.ipynb: save-flip
class RandomHorizontalFlip(Transform):
    """Mirror each image left to right with probability p."""

    axis = -1

    def __init__(self, p: float = 0.5) -> None:
        self.p = expect.probability("p", p)

    def draw(self, n, height, width, generator=None):
        return {"flip": uniform(0, 1, n, generator) < self.p}

    def keep(self, X):
        n = len(X)
        kept = X.new_empty((2 * n, *X.shape[1:]))
        kept[:n] = X
        for i in range(0, n, 1000):  # all at once would need one more copy
            kept[n + i : n + i + 1000] = X[i : i + 1000].flip(self.axis)
        return kept

    def take(self, kept, i, params):
        return pick(kept, i + len(kept) // 2 * params["flip"])

    def apply(self, X, params):
        return self.take(self.keep(X), torch.arange(len(X), device="cpu"), params)


class RandomVerticalFlip(RandomHorizontalFlip):
    """Turn each image upside down with probability p."""

    axis = -2


# 06_batch.ipynb: save-crop
class RandomCrop(Transform):
    """Cut a window of `size` out of each image, padded with black.

    padding: one number, (sides, top and bottom), or (left, top, right, bottom).
    """

    def __init__(self, size, padding=None) -> None:
        self.size = expect.integers("size", size, (2,))
        padding = expect.integers("padding", padding or 0, (2, 4), low=0)
        self.padding = padding * (4 // len(padding))

    def draw(self, n, height, width, generator=None):
        left, top, right, bottom = self.padding
        rows = height + top + bottom - self.size[0]
        columns = width + left + right - self.size[1]
        if min(rows, columns) < 0:
            raise ValueError(
                f"size: expected a crop that fits into {height} x {width} images "
                f"with padding {self.padding}, got {self.size}"
            )
        top, left = (
            torch.randint(spare + 1, (n,), generator=generator, device="cpu")
            for spare in (rows, columns)
        )
        return {"top": top, "left": left}

    def apply(self, X, params):
        left, top, right, bottom = self.padding
        X = F.pad(X, (left, right, top, bottom)).contiguous()
        n, c, H, W = X.shape
        h, w = self.size
        count = X.numel() - (c - 1) * H * W - (h - 1) * W - (w - 1)
        windows = X.as_strided((count, c, h, w), (1, H * W, W, 1))
        first = torch.arange(n, device="cpu") * (c * H * W)
        return pick(windows, first + params["top"] * W + params["left"])


# 06_batch.ipynb: save-names
ColorJitter, RandomErasing = augment.ColorJitter, augment.RandomErasing
Normalize, PerImage = augment.Normalize, augment.PerImage


# 06_batch.ipynb: save-weights
def _weights(start, length, n_out, n_in):
    """Bilinear weights (n, n_out, n_in) from windows [start, start + length)."""
    start, length = start.view(-1, 1, 1).float(), length.view(-1, 1, 1).float()
    pixels = torch.arange(n_in, device=start.device) - start + 0.5  # (n, 1, n_in)
    scale = length / n_out
    centers = (torch.arange(n_out, device=start.device).view(1, -1, 1) + 0.5) * scale
    # When shrinking, each new pixel is a mean over more than its two neighbours.
    W = 1 - (pixels - centers).abs_() / scale.clamp(min=1)
    W = W.clamp_(min=0) * ((pixels > 0) & (pixels < length))
    return W.div_(W.sum(-1, keepdim=True))


# 06_batch.ipynb: save-boxes
def _middle(height, width, ratio):
    """The sides of the largest window with such a ratio, where no try fitted."""
    if width / height < ratio[0]:
        return round(width / ratio[0]), width
    if width / height > ratio[1]:
        return height, round(height * ratio[1])
    return height, width


def _draw_windows(n, height, width, scale, ratio, generator):
    w, h = augment.draw_boxes(n, height * width, scale, ratio, generator)
    fits = (w > 0) & (w <= width) & (h > 0) & (h <= height)  # (10, n)
    found, first = fits.any(0), fits.int().argmax(0, keepdim=True)
    h, w = (
        torch.where(found, tries.gather(0, first)[0], side)
        for tries, side in zip((h, w), _middle(height, width, ratio), strict=True)
    )
    top, left = (
        torch.where(found, augment.draw_place(spare, generator), spare // 2)
        for spare in (height - h, width - w)
    )
    return {"top": top, "left": left, "height": h, "width": w}


# 06_batch.ipynb: save-resized-crop
class RandomResizedCrop(Transform):
    """Stretch a random window of each image to `size`, bilinearly; float32.

    scale: range of the window's area, as a fraction of the image's; ratio: range of
    its width divided by its height, drawn log-uniformly.
    """

    colors = True

    def __init__(self, size, scale=(0.08, 1.0), ratio=(3 / 4, 4 / 3)) -> None:
        self.size = expect.integers("size", size, (2,))
        self.scale = expect.interval("scale", scale, 0, math.inf)
        self.ratio = expect.interval("ratio", ratio, 1e-6, 1e6)

    def draw(self, n, height, width, generator=None):
        return _draw_windows(n, height, width, self.scale, self.ratio, generator)

    def apply(self, X, params):
        X = to_float(X)
        n, c, H, W = X.shape
        top, left, h, w = onto(X.device, *params.values())
        rows = _weights(top, h, self.size[0], H)
        cols = _weights(left, w, self.size[1], W)
        X = torch.bmm(X.reshape(n, c * H, W), cols.mT).view(n, c, H, -1)
        # One channel at a time: `rows[:, None] @ X` would copy the rows' weights.
        Y = torch.stack([torch.bmm(rows, X[:, k]) for k in range(c)], 1)
        return Y.clamp_(0, 1)


# 06_batch.ipynb: save-in-turn
def _in_turn(transforms, X, params):
    for t, p in zip(transforms, params, strict=True):
        X = t.apply(X, p)
    return X


# 06_batch.ipynb: save-compose
class Compose(Transform):
    """Apply transforms in turn; draws come from `generator` if one is given."""

    def __init__(self, transforms, generator=None) -> None:
        chain = []
        for t in expect.transforms(transforms, Transform):
            chain += t.transforms if isinstance(t, Compose) else [t]
        self.transforms = expect.colors_first(chain)
        self.generator = expect.generator(generator)
        self.size = [None, *(t.size for t in chain if t.size)][-1]
        self.colors = any(t.colors for t in chain)

    def draw_for(self, i, epoch, height, width, generator=None):
        generator, params = generator or expect.no_worker(self.generator), []
        for t in self.transforms:
            params.append(t.draw_for(i, epoch, height, width, generator))
            height, width = t.size or (height, width)
        return params

    def draw(self, n, height, width, generator=None):
        i = torch.arange(n, device="cpu")
        return self.draw_for(i, 0, height, width, generator)

    def apply(self, X, params):
        return _in_turn(self.transforms, X, params) if self.transforms else X.clone()

    def keep(self, X):
        return self.transforms[0].keep(X) if self.transforms else X

    def take(self, kept, i, params):
        if not self.transforms:
            return pick(kept, i)
        X = self.transforms[0].take(kept, i, params[0])
        return _in_turn(self.transforms[1:], X, params[1:])


# 06_batch.ipynb: save-dataset
class BatchDataset(Dataset):
    """Images in memory as uint8, handed out as augmented batches.

    X: uint8 (n, h, w, channels); y: class indices (n,), or (n, classes).
    """

    def __init__(self, X, y, transform, device=None) -> None:
        X, y = expect.images("X", X), expect.labels("y", y, len(X))
        device = expect.device("device", device)
        X, self.y = X.permute(0, 3, 1, 2).to(device), y.to(device)
        transform(X[:1], torch.Generator("cpu"))  # a crop that does not fit says so now
        self.kept, self.sides = transform.keep(X).contiguous(), X.shape[2:]
        self.transform, self.epoch = transform, 0

    def set_epoch(self, epoch):
        self.epoch = epoch

    def __len__(self):
        return len(self.y)

    def __getitem__(self, i):
        X, y = self.batch([range(len(self))[i]])
        return X[0], y[0]

    def __getitems__(self, indices):
        return [augment.Batch(self.batch(indices))]

    def batch(self, indices):
        """Images and labels of these indices, augmented; pixels are float32."""
        i = torch.as_tensor(indices, device="cpu")
        params = self.transform.draw_for(i, self.epoch, *self.sides)
        with augment.full_precision(self.kept.device):
            X = self.transform.take(self.kept, i, params)
        return to_float(X), pick(self.y, i)
