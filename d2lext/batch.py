"""Collected from notebooks/06_batch.ipynb, where it is explained.

Edit the lesson, then run `python -m tools.collect`.
"""

# fmt: off
import math

import torch
from torch.utils.data import Dataset
from torchvision.transforms.v2 import functional as TF

from d2lext import augment, expect
from d2lext.augment import PADDINGS, Transform, onto, pick, to_float, uniform


# 06_batch.ipynb: save-flip
class RandomHorizontalFlip(Transform):
    """Mirror each image left to right with probability p."""

    axis = -1

    def __init__(self, p: float = 0.5) -> None:
        self.p = expect.number("p", p, 0, 1)

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
        def flipped(X, flip):
            i = torch.arange(len(X), device="cpu")
            return self.take(self.keep(X), i, {"flip": flip})

        return augment.in_parts(flipped, X, params["flip"])


class RandomVerticalFlip(RandomHorizontalFlip):
    """Turn each image upside down with probability p."""

    axis = -2


# 06_batch.ipynb: save-cut
def _cut(X, top, left, size):
    """Cut a window from (top, left) of each image: (n, c, H, W) to (n, c, *size)."""
    if X.requires_grad or X.device.type == "mps":
        return augment.cut_one_by_one(X, top, left, size)
    n, c, H, W = X.shape
    h, w = size
    count = X.numel() - (c - 1) * H * W - (h - 1) * W - (w - 1)
    windows = X.contiguous().as_strided((count, c, h, w), (1, H * W, W, 1))
    first = torch.arange(n, device="cpu") * (c * H * W)
    return pick(windows, first + top * W + left)


# 06_batch.ipynb: save-crop
class RandomCrop(Transform):
    """Pad each image, then cut out a window of `size`, as torchvision's does.

    padding: one number, (sides, top and bottom), or (left, top, right, bottom).
    """

    def __init__(self, size, padding=None, pad_if_needed=False, fill=0,
                 padding_mode="constant") -> None:
        self.size = expect.integers("size", size, (2,))
        padding = expect.integers("padding", padding or 0, (2, 4), low=-math.inf)
        self.padding = padding * (4 // len(padding))
        self.pad_if_needed, self.fill = pad_if_needed, expect.fill("fill", fill)
        self.padding_mode = expect.choice("padding_mode", padding_mode, PADDINGS)

    def _sides(self, height, width):
        left, top, right, bottom = self.padding
        if self.pad_if_needed:
            y = max(0, self.size[0] - height - top - bottom)
            x = max(0, self.size[1] - width - left - right)
            left, top, right, bottom = left + x, top + y, right + x, bottom + y
        return [left, top, right, bottom]

    def draw(self, n, height, width, generator=None):
        left, top, right, bottom = self._sides(height, width)
        padded = height + top + bottom, width + left + right
        top, left = (
            torch.randint(spare + 1, (n,), generator=generator, device="cpu")
            for spare in expect.spare("size", self.size, padded))
        return {"top": top, "left": left}

    def apply(self, X, params):
        fill = [*expect.per_channel("fill", self.fill, X)]
        X = TF.pad_image(X, self._sides(*X.shape[2:]), fill, self.padding_mode)
        return _cut(X, params["top"], params["left"], self.size)


# 06_batch.ipynb: save-names
ColorJitter, RandomErasing = augment.ColorJitter, augment.RandomErasing
RandomAffine, RandomRotation = augment.RandomAffine, augment.RandomRotation
TrivialAugmentWide, RandAugment = augment.TrivialAugmentWide, augment.RandAugment
RandomApply, RandomChoice = augment.RandomApply, augment.RandomChoice
Normalize, PerImage = augment.Normalize, augment.PerImage


# 06_batch.ipynb: save-weights
def _weights(start, length, n_out, n_in):
    """Return bilinear weights (n, n_out, n_in) of windows [start, start + length)."""
    start, length = start.view(-1, 1, 1).float(), length.view(-1, 1, 1).float()
    pixels = torch.arange(n_in, device=start.device) - start + 0.5  # (n, 1, n_in)
    scale = length / n_out
    new = torch.arange(n_out, device=start.device).view(1, -1, 1)
    centers = new * scale + scale / 2
    # When shrinking, each new pixel averages more than its two neighbours.
    W = 1 - (pixels - centers).abs_() / scale.clamp(min=1)
    W = W.clamp_(min=0) * ((pixels > 0) & (pixels < length))
    return W.div_(W.sum(-1, keepdim=True))


# 06_batch.ipynb: save-boxes
def _middle(height, width, ratio):
    """Return the sides of the largest allowed window, used if no try fits."""
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


# 06_batch.ipynb: save-resized
def _resized(X, top, left, height, width, size):
    """Stretch windows of float images bilinearly: (n, c, H, W) to (n, c, *size)."""
    n, c, H, W = X.shape
    rows = _weights(top, height, size[0], H)
    cols = _weights(left, width, size[1], W)
    X = torch.bmm(X.reshape(n, c * H, W), cols.mT).view(n, c, H, -1)
    # One channel at a time: `rows[:, None] @ X` would copy the rows' weights.
    return torch.stack([torch.bmm(rows, X[:, k]) for k in range(c)], 1)


# 06_batch.ipynb: save-resized-crop
class RandomResizedCrop(Transform):
    """Stretch a random window of each image to `size`; float32.

    scale: range of the window's area, as a fraction of the image's.
    ratio: range of its width divided by its height, drawn log-uniformly.
    interpolation, antialias: as torchvision's.
    """

    floats = True  # it makes floats of uint8

    def __init__(self, size, scale=(0.08, 1.0), ratio=(3 / 4, 4 / 3),
                 interpolation="bilinear", antialias=True) -> None:
        self.size = expect.integers("size", size, (2,))
        self.scale = expect.interval("scale", scale, 0, math.inf)
        self.ratio = expect.interval("ratio", ratio, 1e-6, 1e6)
        self.interpolation = expect.interpolation("interpolation", interpolation)
        self.antialias = antialias

    def draw(self, n, height, width, generator=None):
        return _draw_windows(n, height, width, self.scale, self.ratio, generator)

    def apply(self, X, params):
        boxes = torch.stack(list(params.values()), 1)
        plain = self.interpolation == "bilinear" and self.antialias
        large = X.device.type == "cpu" and max(*X.shape[2:], *self.size) >= 56
        if not plain or (large and not torch.compiler.is_compiling()):
            how = self.interpolation, self.antialias
            return augment.resized_one_by_one(X, boxes, self.size, *how)
        return _resized(to_float(X), *onto(X.device, *params.values()), self.size)


# 06_batch.ipynb: save-in-turn
def _in_turn(transforms, X, params):
    for t, p in zip(transforms, params, strict=True):
        X = t.apply(X, p)
    return X


# 06_batch.ipynb: save-compose
class Compose(Transform):
    """Apply transforms in turn; draw from `generator` if one is given."""

    def __init__(self, transforms, generator=None) -> None:
        chain = []
        for t in expect.transforms(transforms, Transform):
            chain += t.transforms if isinstance(t, Compose) else [t]
        self.transforms = expect.in_order(chain)
        self.generator = expect.generator(generator)
        self.size = [None, *(t.size for t in chain if t.size)][-1]
        expect.merge(self, chain)

    def draw_for(self, i, epoch, height, width, generator=None):
        generator, params = generator or expect.no_worker(self.generator), []
        for t in self.transforms:
            params.append(t.draw_for(i, epoch, height, width, generator))
            height, width = t.size or (height, width)
        return params

    def draw(self, n, height, width, generator=None):
        return self.draw_for(torch.arange(n, device="cpu"), 0, height, width, generator)

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

    X: (n, h, w, channels), uint8; y: class indices (n,), or (n, classes).
    """

    def __init__(self, X, y, transform, device=None) -> None:
        X, y = expect.images("X", X), expect.labels("y", y, len(X))
        device = device or "cpu"
        X, self.y = X.permute(0, 3, 1, 2).to(device), y.to(device)
        transform(X[:1], torch.Generator("cpu"))  # raise now if a crop does not fit
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
        """Return the augmented images, float32, and the labels at these indices."""
        i = torch.as_tensor(indices, device="cpu")
        params = self.transform.draw_for(i, self.epoch, *self.sides)
        with augment.full_precision(self.kept.device):
            X = self.transform.take(self.kept, i, params)
        return to_float(X), pick(self.y, i)
