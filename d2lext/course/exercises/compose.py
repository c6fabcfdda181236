"""4.1: test-time augmentation."""

import torch
from torch.nn import functional as F

from d2lext.course import exercises as ex

WORDS = {
    "right": "your function returns the mean of the probabilities for both views.",
    "plain": "your function returns the probabilities of the original images alone.",
    "mirrored": "your function returns the probabilities of the mirrored images alone.",
    "logits": "your function averages *before* softmax. Apply softmax first.",
    "images": "your function gives net the mean of both views. Call net on each.",
    "classes": "take softmax over the classes (dim 1), not over the images (dim 0).",
    "sum": "each row sums to 2. Return the mean, not the sum.",
    "labels": "your function returns the predicted classes. Return the probabilities.",
    "upside": "your second view is upside down. Mirror along the width (dim 3).",
    "drawn": "two calls gave different results. Mirror in every call, not at random.",
}
VIEWS = 40  # calls for the same images, to catch an occasional missing mirror


class _Net(torch.nn.Module):
    """A nonlinear net, so that every wrong mean gives other values."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.randn(outputs, inputs))

    def forward(self, X: torch.Tensor) -> torch.Tensor:
        return 3 * F.linear(X.flatten(1), self.weight).sin()


def check(answer: ex.Answer) -> None:
    for n in (2, 5, 3, 1, 4):
        (h, w), (k,) = ex.integers(2, 6, 2), ex.integers(6, 12)
        net, X = _Net(3 * h * w, k), torch.rand(n, 3, h, w)
        ex.refuse("labels", getattr(answer(net, X), "shape", None) == (n,))
        views = [answer.tensor(net, X, shape=(n, k)) for _ in range(VIEWS)]
        ex.refuse("drawn", not all(ex.same(view, views[0]) for view in views))
        with torch.no_grad():
            _judge(views[0], net, X)


def _judge(found: torch.Tensor, net: _Net, X: torch.Tensor) -> None:
    plain, mirrored = net(X), net(X.flip(3))
    p, q = plain.softmax(1), mirrored.softmax(1)
    logits = (plain + mirrored) / 2
    mistakes = {
        "plain": [p],
        "mirrored": [q],
        "sum": [p + q],
        "logits": [logits, logits.softmax(1), (2 * logits).softmax(1)],
        "images": [net((X + X.flip(3)) / 2).softmax(1)],
        "classes": [(plain.softmax(0) + mirrored.softmax(0)) / 2],
        "upside": [(p + net(X.flip(k)).softmax(1)) / 2 for k in ((2,), (2, 3))],
    }
    ex.match(found, (p + q) / 2, mistakes)
