"""2.1: a crop with its own draw for each image."""

import torch
from torch.nn.functional import one_hot

from d2lext.course import exercises as ex

WORDS = {
    "right": "each image has its own place, and every place is equally likely.",
    "mixed": "crop i should be one connected square of image i, at one place in "
    "all channels. Some of yours are not.",
    "edge": "no crop begins at the first row or column, or none ends at the last. Let "
    "rows run from 0 to h - size; randint excludes its upper end.",
    "uneven": "some places are drawn more often than others. Draw row and column "
    "separately, and make all places equally likely.",
}


def check(answer: ex.Answer) -> None:
    _places(answer, 3, 5, 4, 2)
    (size,), few_many = ex.integers(2, 5), sorted(ex.integers(3, 6, 2))
    for down, across in (few_many, few_many[::-1]):  # numbers of places
        shape = size + down - 1, size + across - 1, size
        rows, columns = ex.draws(_places, answer, ex.N, *shape)
        ex.refuse("edge", rows.min() + columns.min() > 0)
        ex.refuse("edge", rows.max() < down - 1 or columns.max() < across - 1)
        drawn = one_hot(rows * across + columns, down * across)
        ex.refuse("uneven", not ex.fair(drawn, torch.zeros(down * across).long()))
    for height, width, size in ((4, 6, 4), (6, 4, 4), (3, 3, 3), (4, 5, 1)):
        _places(answer, 2, height, width, size)  # one row, one column, one place


def _places(answer: ex.Answer, n: int, h: int, w: int, size: int) -> torch.Tensor:
    """Rows and columns (2, n) at which crops begin; each must be a correct crop."""
    # Each value encodes its image, channel, row and column.
    X = torch.arange(n * 3 * h * w, dtype=torch.float32).reshape(n, 3, h, w)
    Y = answer.tensor(X, size, shape=(n, 3, size, size))
    begin = Y[:, :, 0, 0].long()  # (n, 3)
    place = torch.stack([begin // w % h, begin % w])  # (2, n, 3)
    piece = torch.arange(size)[:, None] * w + torch.arange(size)  # (size, size)
    ex.refuse("mixed", not ex.same(Y, begin[..., None, None] + piece))
    ex.refuse("mixed", (begin.flatten() // (h * w) != torch.arange(n * 3)).any())
    ex.refuse("mixed", (place > torch.tensor([h, w])[:, None, None] - size).any())
    ex.refuse("mixed", (place != place[..., :1]).any())
    return place[..., 0]
