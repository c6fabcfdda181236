"""4.1: test-time augmentation."""

import torch

from d2lext.course import exercises as ex

WORDS = {
    "right": "your function returns the mean of the probabilities for both views.",
    "one": "your function returns the probabilities of one view alone. Mirror in every "
    "call, and return the mean of both views.",
    "logits": "your function averages *before* softmax. Apply softmax first.",
    "classes": "take softmax over the classes (dim 1), not over the images (dim 0).",
    "sum": "each row sums to 2. Return the mean, not the sum.",
    "upside": "your second view is upside down. Mirror along the width (dim 3).",
}
CALLS = 40  # for each number of images, to catch an occasional missing mirror


def check(answer: ex.Answer) -> None:
    for n in [2, 5, 3, 1, 4] * CALLS:
        (h, w), (k,) = ex.integers(2, 6, 2), ex.integers(6, 12)
        net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(3 * h * w, k))
        X = 3 * torch.randn(n, 3, h, w)
        found = answer.tensor(net, X, shape=(n, k))
        plain, mirrored = net(X), net(X.flip(3))
        p, q = plain.softmax(1), mirrored.softmax(1)
        logits = (plain + mirrored) / 2
        mistakes = {
            "one": [p, q],
            "sum": [p + q],
            "logits": [logits, logits.softmax(1), (2 * logits).softmax(1)],
            "classes": [(plain.softmax(0) + mirrored.softmax(0)) / 2],
            "upside": [(p + net(X.flip(k)).softmax(1)) / 2 for k in ((2,), (2, 3))],
        }
        ex.match(found, (p + q) / 2, mistakes)
