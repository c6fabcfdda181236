"""4.1: test-time augmentation."""

import torch
from torch.nn import functional as F

from d2lext.course.exercises import Answer, AnswerError, integers, match, same

WORDS = {
    "right": "the mean of the two answers, as probabilities.",
    "plain": "that is the answer for the images as they are, alone.",
    "mirrored": "that is the answer for the mirrored images, alone.",
    "logits": "that is the mean *before* softmax. Take probabilities, then the mean.",
    "images": "that is the answer for the mean of the two images. Give net both, one "
    "after the other.",
    "classes": "softmax was taken over the images; take it over the classes.",
    "sum": "the rows add up to 2. Take the mean, not the sum.",
    "labels": "return probabilities, not the classes guessed.",
    "upside": "the second view is upside down. Mirror along the width.",
    "drawn": "two calls give different answers. Mirror always, not by chance.",
}


class _Net(torch.nn.Module):
    """Some net that is not linear, so that every wrong mean shows."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.randn(outputs, inputs))

    def forward(self, X: torch.Tensor) -> torch.Tensor:
        return 3 * F.linear(X.flatten(1), self.weight).sin()


def check(answer: Answer) -> None:
    for n in (2, 5, 3, 1, 4):
        (h, w), (k,) = integers(2, 6, 2), integers(6, 12)
        _two_views(answer, _Net(3 * h * w, k), torch.rand(n, 3, h, w), k)


def _two_views(answer: Answer, net: _Net, X: torch.Tensor, num_classes: int) -> None:
    n = len(X)
    found = answer(net, X)
    if isinstance(found, torch.Tensor) and found.shape == (n,):
        raise AnswerError("labels")
    found = answer.tensor(net, X, shape=(n, num_classes))
    for _ in range(10):
        if not same(answer.tensor(net, X, shape=found.shape), found):
            raise AnswerError("drawn")
    with torch.no_grad():
        plain, mirrored, turned = net(X), net(X.flip(3)), net(X.flip((2, 3)))
        upside, mean = net(X.flip(2)), net((X + X.flip(3)) / 2)
    right = (plain.softmax(1) + mirrored.softmax(1)) / 2
    match(
        found,
        right,
        ("plain", plain.softmax(1)),
        ("mirrored", mirrored.softmax(1)),
        ("sum", 2 * right),
        ("logits", (plain + mirrored) / 2),
        ("logits", ((plain + mirrored) / 2).softmax(1)),
        ("logits", (plain + mirrored).softmax(1)),
        ("images", mean.softmax(1)),
        ("classes", (plain.softmax(0) + mirrored.softmax(0)) / 2),
        ("upside", (plain.softmax(1) + upside.softmax(1)) / 2),
        ("upside", (plain.softmax(1) + turned.softmax(1)) / 2),
    )
