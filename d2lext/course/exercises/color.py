"""3.1: jitter in one factor."""

import torch

from d2lext.course.exercises import (
    SIGMAS,
    Answer,
    AnswerError,
    N,
    even,
    patterned,
    same,
)

WORDS = {
    "right": "one factor for each image, drawn evenly around 1, and clipped.",
    "unclipped": "values above 1 come out. Clip to the range of pixels.",
    "added": "something is added. Brightness *multiplies*, so that black stays.",
    "together": "all images have the same factor. One draw for each.",
    "pixels": "within an image the factor differs. That is noise, not brightness.",
    "channels": "each channel has a factor of its own. That changes the colour; "
    "brightness has one for all three.",
    "range": "factors should lie between {wanted}, for this amount; found {found}.",
    "centre": "the mean factor should be 1, found {found}: brighter and darker "
    "are not equally likely.",
    "uneven": "the factors should be spread evenly, to both ends of the range.",
}
BINS = 10


def check(answer: Answer) -> None:
    _factors(answer, 0.3, (2, 3, 3, 2))
    for low in (0.1, 0.6):
        amount = round(low + 0.2 * torch.rand(()).item(), 2)
        first, second = (_factors(answer, amount, (N, 3, 3, 2)) for _ in range(2))
        if same(first, first[:1].expand(N)):
            raise AnswerError("together")
        if torch.equal(first, second):
            raise AnswerError("frozen")
        _judge(torch.cat([first, second]), amount)


def _factors(answer: Answer, amount: float, shape: tuple[int, ...]) -> torch.Tensor:
    """The factor of each image (n,), if each has one and the rest is right."""
    X = torch.rand(shape)
    X[..., 0, 0] = 0.5  # never clipped, so it shows the factor
    X[..., 0, 1] = 0.25
    X[..., 1, 0] = 0.9  # clipped at times
    Y = answer.tensor(X, amount, shape=shape)
    if Y.max() > 1 + 1e-5:
        raise AnswerError("unclipped")
    factors = Y[..., 0, 0] / 0.5  # (n, channels)
    factor = factors[:, :1]
    if same(Y, (X * factor[..., None, None]).clamp(0, 1)):
        return factor[:, 0]
    moved = Y - X
    if same(moved[..., 0, 0], moved[..., 0, 1]) and moved.abs().max() > 1e-3:
        raise AnswerError("added")
    if same(Y, (X * factors[..., None, None]).clamp(0, 1)):
        raise AnswerError("channels")
    alike = same(factors, Y[..., 0, 1] / 0.25)
    raise AnswerError("other" if alike else "pixels")


def _judge(factor: torch.Tensor, amount: float) -> None:
    low, high = 1 - amount, 1 + amount
    if factor.min() < low - 1e-4 or factor.max() > high + 1e-4:
        found, wanted = f"{factor.min():.2f} to {factor.max():.2f}", f"{low} and {high}"
        raise AnswerError("range", found=found, wanted=wanted)
    if abs(factor.mean() - 1) > SIGMAS * amount / (3 * len(factor)) ** 0.5:
        raise AnswerError("centre", found=f"{factor.mean():.2f}")
    bins = ((factor - low) / (2 * amount) * BINS).long().clamp(0, BINS - 1)
    if patterned(bins, BINS):
        raise AnswerError("pattern")
    values = factor.unique().numel()
    if not even(bins.bincount(minlength=BINS)) or values < len(factor) / 2:
        raise AnswerError("uneven")
