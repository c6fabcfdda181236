"""2.1: a crop with its own draw for each image."""

import torch

from d2lext.course import exercises as ex

WORDS = {
    "right": "each image has its own place, and every place is equally likely.",
    "mixed": "crop i should be one connected square of image i. Some of yours are not.",
    "channels": "an image's channels are cropped at different places. Use one place.",
    "together": "all crops begin at the same row or column. Draw both for each image.",
    "diagonal": "the row always equals the column. Draw the two separately.",
    "first": "no crop begins at the first row, or none at the first column. Let both "
    "draws start at 0.",
    "last": "no crop ends at the last row, or none at the last column. A crop can "
    "begin at h - size + 1 rows, and randint excludes its upper end.",
    "uneven": "some places are drawn more often than others. Make all equally likely.",
}


def check(answer: ex.Answer) -> None:
    _places(answer, 3, 5, 4, 2)
    (size,), few_many = ex.integers(2, 5), sorted(ex.integers(3, 6, 2))
    for down, across in (few_many, few_many[::-1]):  # numbers of places
        shape = size + down - 1, size + across - 1, size
        calls = [_places(answer, ex.N, *shape) for _ in range(2)]
        _judge(*calls, down, across)
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
    ex.refuse("channels", (place != place[..., :1]).any())
    return place[..., 0]


def _judge(first: torch.Tensor, second: torch.Tensor, down: int, across: int) -> None:
    rows, columns = first
    ex.refuse("together", (first == first[:, :1]).all(1).any())
    ex.refuse("frozen", torch.equal(first, second))
    ex.refuse("diagonal", torch.equal(rows, columns))
    ex.refuse("first", first.min(1).values.any())
    ex.refuse("last", rows.max() < down - 1 or columns.max() < across - 1)
    both = torch.cat([first, second], 1)  # (2, 2 * n)
    places = both.T @ torch.tensor([across, 1])
    ex.refuse("pattern", ex.patterned(*both))
    ex.refuse("uneven", not ex.even(places.bincount(minlength=down * across)))
