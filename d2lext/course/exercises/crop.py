"""2.1: a crop with its own draw for each image."""

import torch

from d2lext.course import exercises as ex

WORDS = {
    "right": "each image has its own place, and every place is as likely.",
    "mixed": "a crop should be one connected piece of the image with its number.",
    "channels": "the channels of an image are cropped at different places.",
    "together": "all images are cropped at the same row or column. Draw both for "
    "each image.",
    "diagonal": "row and column are always the same number. Draw both.",
    "first": "the crop never begins at the first row or column.",
    "last": "the last row or column is never reached: h - size + 1 rows are "
    "possible beginnings, and randint's upper end is not drawn.",
    "uneven": "some places are drawn more often than others.",
}


def check(answer: ex.Answer) -> None:
    _places(answer, 3, 5, 4, 2)
    for tall in (True, False):
        size, (few, many) = ex.integers(2, 5)[0], sorted(ex.integers(3, 6, 2))
        across, down = (few, many) if tall else (many, few)  # places there are
        calls = [_places(answer, ex.N, size + down - 1, size + across - 1, size)]
        calls += [_places(answer, ex.N, size + down - 1, size + across - 1, size)]
        _judge(*calls, down, across)
    for height, width, size in ((4, 6, 4), (6, 4, 4), (3, 3, 3), (4, 5, 1)):
        _places(answer, 2, height, width, size)  # one row, one column, one place


def _places(answer: ex.Answer, n: int, h: int, w: int, size: int) -> torch.Tensor:
    """Rows and columns (2, n) at which crops begin, if all of each is right."""
    # Every value says which image, channel, row and column it is of.
    X = torch.arange(n * 3 * h * w, dtype=torch.float32).reshape(n, 3, h, w)
    Y = answer.tensor(X, size, shape=(n, 3, size, size))
    begin = Y[:, :, 0, 0].long()  # (n, 3)
    rows, columns = begin // w % h, begin % w
    piece = torch.arange(size)[:, None] * w + torch.arange(size)  # (size, size)
    whole = ex.same(Y, begin[..., None, None] + piece)
    inside = (rows <= h - size).all() and (columns <= w - size).all()
    own = torch.equal(begin // (h * w), torch.arange(n * 3).reshape(n, 3))
    if not (whole and inside and own):
        raise ex.AnswerError("mixed")
    if (rows != rows[:, :1]).any() or (columns != columns[:, :1]).any():
        raise ex.AnswerError("channels")
    return torch.stack([rows[:, 0], columns[:, 0]])


def _judge(first: torch.Tensor, second: torch.Tensor, down: int, across: int) -> None:
    rows, columns = first
    if (rows == rows[0]).all() or (columns == columns[0]).all():
        raise ex.AnswerError("together")
    if torch.equal(first, second):
        raise ex.AnswerError("frozen")
    if torch.equal(rows, columns):
        raise ex.AnswerError("diagonal")
    if rows.min() > 0 or columns.min() > 0:
        raise ex.AnswerError("first")
    if rows.max() < down - 1 or columns.max() < across - 1:
        raise ex.AnswerError("last")
    places = torch.cat([first, second], 1).T @ torch.tensor([across, 1])
    if ex.patterned(places, down * across):
        raise ex.AnswerError("pattern")
    if not ex.even(places.bincount(minlength=down * across)):
        raise ex.AnswerError("uneven")
