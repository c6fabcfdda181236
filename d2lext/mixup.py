"""Collected from notebooks/09_mixup.ipynb, where it is explained.

Edit the lesson, then run `python -m tools.collect`.
"""

# fmt: off
import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from d2lext import expect
from d2lext.compare import difference
from d2lext.multi_gpu import to_device, train_batch_ch13


# 09_mixup.ipynb: save-lam
def draw_lam(alpha, n=1, generator=None):
    """Draw n numbers from Beta(alpha, alpha), float64 (n,); for alpha 0 all are 1.

    generator: a CPU `torch.Generator`; default: that of `torch.manual_seed`.
    """
    expect.number("alpha", alpha)
    if alpha == 0:
        return torch.ones(n, dtype=torch.float64)
    # torch's own Beta takes no generator.
    seed = torch.randint(2**63 - 1, (), generator=generator)
    draws = np.random.default_rng(seed.item()).beta(alpha, alpha, n)
    return torch.from_numpy(draws)


# 09_mixup.ipynb: save-partners
def _partners(x, y, other, generator):
    """Return the batch to mix in: `other`, or the same batch shuffled."""
    expect.mixable(x, y, other)
    if other is not None:
        return other
    index = torch.randperm(len(x), generator=generator)
    return x[index.to(x.device)], y[index.to(y.device)]


# 09_mixup.ipynb: save-mixup-data
def mixup_data(x, y, alpha, per_example=False, other=None, generator=None):
    """Mix a batch with itself in another order (Zhang et al., arXiv:1710.09412).

    Returns lam * x + (1 - lam) * x_b, y_a (which is y), y_b, and lam.

    x: floats (n, ...).
    y: n class indices, or probabilities (n, classes).
    alpha: lam is drawn from Beta(alpha, alpha); 0 mixes nothing.
    per_example: False: lam is one float; True: a tensor (n,), a draw per example.
    other: a second batch (x, y), whose example i is mixed with example i of x.
    generator: as for `draw_lam`.
    """
    x_b, y_b = _partners(x, y, other, generator)
    lam = draw_lam(alpha, len(x) if per_example else 1, generator)
    lam = lam.to(x.device, x.dtype)
    weight = lam.reshape(-1, *[1] * (x.ndim - 1))  # (n or 1, 1, 1, 1) for images
    return torch.lerp(x_b, x, weight), y, y_b, lam if per_example else lam.item()


# 09_mixup.ipynb: save-criterion
def mixup_criterion(criterion, pred, y_a, y_b, lam):
    """Return lam * criterion(pred, y_a) + (1 - lam) * criterion(pred, y_b).

    criterion: returns one value, or one per example.
    lam: a number, or a tensor (n,), which needs a criterion with a value per example.
    """
    expect.function("criterion", criterion, "F.cross_entropy")
    loss_a, loss_b = criterion(pred, y_a), criterion(pred, y_b)
    expect.weights(lam, loss_a)
    return lam * loss_a + (1 - lam) * loss_b


# 09_mixup.ipynb: save-train-batch
def train_batch_mixup(
    net, X, y, loss, trainer, devices, amp=None, alpha=0.5, mix=mixup_data, sync=True
):
    """Train on one mixed batch; a replacement for `train_batch_ch13`.

    Returns the sum of the losses and the weighted hit count: lam for a prediction of
    y_a, 1 - lam for one of y_b.

    alpha: as for `mixup_data`.
    mix: `mixup_data` or a function like it.
    Other arguments: as for `train_batch_ch13`.
    """
    expect.indices("y", y, len(y))
    device = expect.devices(devices)[0]
    X, y_a, y_b, lam = mix(to_device(X, device), y.to(device), alpha)
    hits = []

    def mixed_loss(pred, y_a):
        guess = pred.detach().argmax(1)
        hits.append((lam * (guess == y_a) + (1 - lam) * (guess == y_b)).sum())
        return mixup_criterion(loss, pred, y_a, y_b, lam)

    l, _ = train_batch_ch13(net, X, y_a, mixed_loss, trainer, devices, amp, sync)
    return l, hits[0]


# 09_mixup.ipynb: save-cutmix
def cutmix_data(x, y, alpha, per_example=False, other=None, generator=None):
    """Paste a rectangle of another image (Yun et al., arXiv:1905.04899).

    Each side of the rectangle is that of x times sqrt(1 - Beta(alpha, alpha)); what
    sticks out is clipped. lam is the fraction of its area that x keeps.

    x: floats (n, c, h, w).
    Other arguments and what is returned: as for `mixup_data`.
    """
    x_b, y_b = _partners(x, y, other, generator)
    expect.shape("x", x, "(n, c, h, w)")
    lam = draw_lam(alpha, len(x) if per_example else 1, generator)
    inside = []  # rows and columns of the rectangle: (n or 1, h) and (n or 1, w)
    for size in x.shape[2:]:
        half = (size * (1 - lam[:, None]).sqrt() / 2).long()
        center = torch.randint(size, half.shape, generator=generator)
        offset = torch.arange(size) - center
        inside.append((-half <= offset) & (offset < half))
    pasted = (inside[0][:, :, None] & inside[1][:, None])[:, None]  # (n or 1, 1, h, w)
    lam = 1 - pasted.double().mean((1, 2, 3))
    mixed = torch.where(pasted.to(x.device), x_b, x)
    return mixed, y, y_b, lam.to(x.device, x.dtype) if per_example else lam.item()


# 09_mixup.ipynb: save-calibration
def calibration_bins(pred, y, num_bins=15):
    """Sort predictions by confidence, the largest probability, into equal bins.

    Returns (num_bins, 3) float64: in each bin the number of examples, the sum of
    their confidences, and the number of hits.

    pred: (n, classes), before softmax.
    y: n class indices.
    """
    expect.indices("y", y, len(expect.logits("pred", pred)))
    confidence, guess = pred.detach().cpu().double().softmax(1).max(1)
    i = (confidence * num_bins).ceil().long().clamp(1, num_bins) - 1
    rows = [torch.ones_like(confidence), confidence, (guess == y.cpu()).double()]
    bins = torch.zeros(num_bins, 3, dtype=torch.float64)
    return bins.index_add_(0, i, torch.stack(rows, 1))


def expected_calibration_error(bins):
    """Return the mean distance of confidence and accuracy, weighted by bin counts.

    Guo et al., arXiv:1706.04599.

    bins: as `calibration_bins` returns them, or a sum of several.
    """
    count, confidence, hits = bins.unbind(1)
    return ((confidence - hits).abs().sum() / count.sum()).item()


# 09_mixup.ipynb: save-interval
def interval(a, b, scale=100):
    """Write lesson 8's `difference`, b - a, as "+6.0 [+3.5, +8.5]", in points."""
    gain, half = difference(a, b, scale)
    return f"{gain:+.1f} [{gain - half:+.1f}, {gain + half:+.1f}]"


# 09_mixup.ipynb: save-focal
class FocalLoss(nn.Module):
    """Focal loss, -(1 - p) ** gamma * log(p), p the label's probability.

    Call it with pred (n, classes), before softmax, and n class indices.
    Lin et al., arXiv:1708.02002.

    gamma: 0 is cross-entropy.
    reduction: "mean", "sum", or "none" for one value per example.
    """

    def __init__(self, gamma=2.0, reduction="mean"):
        super().__init__()
        self.gamma = expect.number("gamma", gamma)
        self.reduction = expect.choice("reduction", reduction, ("mean", "sum", "none"))

    def forward(self, pred, y):
        expect.indices("y", y, len(pred))
        l = F.cross_entropy(pred, y.long(), reduction="none")
        missing = -torch.expm1(-l)  # 1 - p, also where p is nearly 1
        l = missing.clamp_min(1e-12) ** self.gamma * l
        return l if self.reduction == "none" else getattr(l, self.reduction)()


# 09_mixup.ipynb: save-margin-head
class AdditiveMarginHead(nn.Module):
    """AM-softmax: scale * (cosine - margin at the label) (arXiv:1801.05599).

    Call it with features, floats (n, num_features), and y, n class indices, or
    without y for no margin. Returns (n, num_classes).
    """

    def __init__(self, num_features, num_classes, scale=30.0, margin=0.35):
        super().__init__()
        self.scale = expect.number("scale", scale)
        self.margin = expect.number("margin", margin)
        weight = torch.empty(num_classes, num_features)
        self.weight = nn.Parameter(nn.init.xavier_uniform_(weight))

    def forward(self, features, y=None):
        cosine = F.linear(F.normalize(features), F.normalize(self.weight))
        if y is not None:
            cosine = cosine - self.margin * F.one_hot(y.long(), len(self.weight))
        return self.scale * cosine  # (n, num_classes)
