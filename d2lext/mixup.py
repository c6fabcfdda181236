"""Collected from notebooks/09_mixup.ipynb, where it is explained.

Edit the lesson, then run `python -m tools.collect`.
"""

import inspect
import math
from numbers import Real

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from d2lext.multi_gpu import to_device, train_batch_ch13

__all__ = [
    "AdditiveMarginHead",
    "FocalLoss",
    "calibration_bins",
    "cutmix_data",
    "draw_lam",
    "expected_calibration_error",
    "mixup_criterion",
    "mixup_data",
    "train_batch_mixup",
]


# 09_mixup.ipynb: save-lam
def draw_lam(alpha, n=1, generator=None):
    """Draw n numbers from Beta(alpha, alpha): float64 (n,); all are 1 for alpha 0.

    generator: a `torch.Generator`; default that of `torch.manual_seed`. Raises
    ValueError for an alpha that is negative, not finite or not a number.
    """
    if not isinstance(alpha, Real) or not math.isfinite(alpha) or alpha < 0:
        raise ValueError(f"alpha: expected a finite number >= 0, got {alpha!r}")
    if alpha == 0:
        return torch.ones(n, dtype=torch.float64)
    # torch's own Beta takes no generator.
    device = "cpu" if generator is None else generator.device
    seed = torch.randint(2**63 - 1, (), generator=generator, device=device)
    draws = np.random.default_rng(seed.item()).beta(alpha, alpha, n)
    return torch.from_numpy(draws)


# 09_mixup.ipynb: save-partners
def _check_indices(name, y, n):
    whole = isinstance(y, torch.Tensor) and y.dtype in (
        *(torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64),
    )
    if not whole or y.ndim != 1:
        got = type(y).__name__
        if isinstance(y, torch.Tensor):
            got = f"{y.dtype} of shape {tuple(y.shape)}"
        raise TypeError(
            f"{name}: expected class indices, a tensor of whole numbers of shape (n,), "
            f"got {got}"
        )
    if len(y) != n:
        raise ValueError(f"{name}: has {len(y)} labels for {n} examples")


def _check_floats(name, x):
    if not isinstance(x, torch.Tensor) or not x.is_floating_point():
        got = x.dtype if isinstance(x, torch.Tensor) else type(x).__name__
        raise TypeError(
            f"{name}: expected a tensor of floats, got {got}; pictures of uint8 become "
            "floats from 0 to 1 by d2lext.batch.to_float"
        )


def _partners(x, y, other, generator):
    """What to mix into a batch: the other batch, or the same one in another order."""
    _check_floats("x", x)
    _check_indices("y", y, len(x))
    if other is None:
        device = "cpu" if generator is None else generator.device
        index = torch.randperm(len(x), generator=generator, device=device)
        return x[index.to(x.device)], y[index.to(y.device)]
    x_b, y_b = other
    _check_floats("other[0]", x_b)
    if x_b.shape != x.shape:
        raise ValueError(
            f"other[0]: expected the shape of x, {tuple(x.shape)}, "
            f"got {tuple(x_b.shape)}"
        )
    _check_indices("other[1]", y_b, len(x))
    return x_b, y_b


# 09_mixup.ipynb: save-mixup-data
def mixup_data(x, y, alpha, per_example=False, other=None, generator=None):
    """Mix a batch with itself in another order (Zhang et al., arXiv:1710.09412).

    x: floats (n, ...); y: n class indices; per_example: a lambda for each example, not
    one for all; other: a second batch (x, y) to mix in, pair by pair; generator: as for
    `draw_lam`. Returns lam * x + (1 - lam) * x_b, y_a (which is y), y_b, and lam: a
    float, or a tensor (n,). Raises TypeError or ValueError, naming the argument.
    """
    x_b, y_b = _partners(x, y, other, generator)
    lam = draw_lam(alpha, len(x) if per_example else 1, generator)
    if not per_example:
        lam = lam.item()
        return torch.lerp(x_b, x, lam), y, y_b, lam
    lam = lam.to(x.device, x.dtype)
    weight = lam.reshape(-1, *[1] * (x.ndim - 1))  # (n, 1, 1, 1) for pictures
    return torch.lerp(x_b, x, weight), y, y_b, lam


# 09_mixup.ipynb: save-criterion
def _check_criterion(criterion, pred, y):
    if isinstance(criterion, type):
        name = criterion.__name__
        raise TypeError(f"criterion: {name} is a class; make one first, {name}()")
    function = criterion.forward if isinstance(criterion, nn.Module) else criterion
    try:
        inspect.signature(function).bind(pred, y)
    except ValueError:
        return  # a function in C does not tell
    except TypeError as error:
        raise TypeError(
            f"criterion: is called with two arguments, (pred, y), and here: {error}; "
            "wrap it, lambda pred, y: ..."
        ) from None


def mixup_criterion(criterion, pred, y_a, y_b, lam):
    """Return lam * criterion(pred, y_a) + (1 - lam) * criterion(pred, y_b).

    criterion: returns one value, or one per example, which a lam of shape (n,) needs.
    Raises TypeError for a criterion that cannot be called so, ValueError for one
    value where lam has n, and for a lam of another shape.
    """
    _check_criterion(criterion, pred, y_a)
    loss_a, loss_b = criterion(pred, y_a), criterion(pred, y_b)
    if isinstance(lam, torch.Tensor) and lam.ndim > 1:
        raise ValueError(
            f"lam: expected a number, or shape (n,), got shape {tuple(lam.shape)}"
        )
    if isinstance(lam, torch.Tensor) and lam.ndim and lam.shape != loss_a.shape:
        raise ValueError(
            f"criterion: expected {len(lam)} values, one per example as lam has, got "
            f'shape {tuple(loss_a.shape)}; make it with reduction="none"'
        )
    return lam * loss_a + (1 - lam) * loss_b


# 09_mixup.ipynb: save-train-batch
def _is_hit(pred, y):
    return (pred.argmax(1) == y).float()


def train_batch_mixup(
    net, X, y, loss, trainer, devices, amp=None, alpha=0.5, mix=mixup_data
):
    """Train on one mixed batch; otherwise as `train_batch_ch13`, and in its place.

    mix: `mixup_data` or a function like it. Of the two sums returned, the second counts
    a prediction of y_a as lam of a hit, and of y_b as 1 - lam of one.
    """
    device = torch.device(devices[0])
    X, y_a, y_b, lam = mix(to_device(X, device), y.to(device), alpha)
    hits = []

    def mixed_loss(pred, y_a):
        hits.append(mixup_criterion(_is_hit, pred.detach(), y_a, y_b, lam).sum())
        return mixup_criterion(loss, pred, y_a, y_b, lam)

    l, _ = train_batch_ch13(net, X, y_a, mixed_loss, trainer, devices, amp)
    return l, hits[0]


# 09_mixup.ipynb: save-cutmix
def _spans(centers, half, size):
    """For n intervals of a side, which places are inside: (n, size) bool."""
    places = torch.arange(size)
    return (places >= centers - half) & (places < centers + half)


def cutmix_data(x, y, alpha, per_example=False, other=None, generator=None):
    """Paste a rectangle of another picture (Yun et al., arXiv:1905.04899).

    x: floats (n, c, h, w); the rest as for `mixup_data`. The rectangle is as wide and
    high as x times sqrt(1 - Beta(alpha, alpha)), before what is outside is cut off. lam
    is the part of the area that x keeps.
    """
    x_b, y_b = _partners(x, y, other, generator)
    if x.ndim != 4:
        raise ValueError(f"x: expected shape (n, c, h, w), got {tuple(x.shape)}")
    lam = draw_lam(alpha, len(x) if per_example else 1, generator)
    spans = []
    for size in x.shape[2:]:
        device = "cpu" if generator is None else generator.device
        n = (len(lam), 1)
        centers = torch.randint(size, n, generator=generator, device=device).cpu()
        half = (0.5 * (1 - lam[:, None]).sqrt() * size).long()
        spans.append(_spans(centers, half, size))
    rows, columns = spans
    pasted = (rows[:, :, None] & columns[:, None, :])[:, None]  # (n or 1, 1, h, w)
    lam = 1 - pasted.double().mean((1, 2, 3))
    mixed = torch.where(pasted.to(x.device), x_b, x)
    return mixed, y, y_b, lam.to(x.device, x.dtype) if per_example else lam.item()


# 09_mixup.ipynb: save-calibration
def calibration_bins(pred, y, num_bins=15):
    """Sort predictions by confidence, the largest probability, into equal bins.

    pred: (n, classes), before softmax; y: n class indices. Returns (num_bins, 3)
    float64: the number of examples, the sum of their confidences, and of hits.
    """
    _check_indices("y", y, len(pred))
    confidence, guess = pred.detach().cpu().double().softmax(1).max(1)
    i = (confidence * num_bins).ceil().long().clamp(1, num_bins) - 1
    rows = [torch.ones_like(confidence), confidence, (guess == y.cpu()).double()]
    bins = torch.zeros(num_bins, 3, dtype=torch.float64)
    return bins.index_add_(0, i, torch.stack(rows, 1))


def expected_calibration_error(bins):
    """Mean distance of confidence and accuracy over the bins (Guo et al., 1706.04599).

    bins: as `calibration_bins` returns them, or a sum of such.
    """
    count, confidence, hits = bins.unbind(1)
    return ((confidence - hits).abs().sum() / count.sum()).item()


# 09_mixup.ipynb: save-focal
class FocalLoss(nn.Module):
    """(1 - p) ** gamma * -log(p), p the probability of the label (arXiv:1708.02002).

    Called with pred (n, classes), before softmax, and n class indices; gamma 0 is
    cross-entropy. reduction: mean, sum, or none for one value per example.
    """

    def __init__(self, gamma=2.0, reduction="mean"):
        super().__init__()
        if not isinstance(gamma, Real) or not 0 <= gamma < math.inf:
            raise ValueError(f"gamma: expected a finite number >= 0, got {gamma!r}")
        if reduction not in ("mean", "sum", "none"):
            raise ValueError(
                f"reduction: expected mean, sum or none, got {reduction!r}"
            )
        self.gamma, self.reduction = gamma, reduction

    def forward(self, pred, y):
        _check_indices("y", y, len(pred))
        l = F.cross_entropy(pred, y.long(), reduction="none")
        missing = -torch.expm1(-l)  # 1 - p, also where p is nearly 1
        l = missing.clamp_min(1e-12) ** self.gamma * l
        return l if self.reduction == "none" else getattr(l, self.reduction)()


# 09_mixup.ipynb: save-margin
class AdditiveMarginHead(nn.Module):
    """scale * (cosine - margin at the label): AM-softmax (Wang et al., 1801.05599).

    Called with features (n, num_features) and n class indices; without labels, as for
    predicting, there is no margin. Returns (n, num_classes).
    """

    def __init__(self, num_features, num_classes, scale=30.0, margin=0.35):
        super().__init__()
        self.scale, self.margin = scale, margin
        self.weight = nn.Parameter(torch.empty(num_classes, num_features))
        nn.init.xavier_uniform_(self.weight)

    def forward(self, features, y=None):
        cosine = F.linear(F.normalize(features), F.normalize(self.weight))
        if y is not None:
            _check_indices("y", y, len(features))
            cosine = cosine - self.margin * F.one_hot(y.long(), len(self.weight))
        return self.scale * cosine
