"""3.1: jitter in one factor."""

import torch

from d2lext.course import exercises as ex

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


def check(answer: ex.Answer) -> None:
    _factors(answer, 0.3, (2, 3, 3, 2))
    for low in (0.1, 0.6):
        amount = round(low + 0.2 * torch.rand(()).item(), 2)
        first, second = (_factors(answer, amount, (ex.N, 3, 3, 2)) for _ in range(2))
        if ex.same(first, first[:1].expand(ex.N)):
            raise ex.AnswerError("together")
        if torch.equal(first, second):
            raise ex.AnswerError("frozen")
        _judge(torch.cat([first, second]), amount)


def _factors(answer: ex.Answer, amount: float, shape: tuple[int, ...]) -> torch.Tensor:
    """The factor of each image (n,), if each has one and the rest is right."""
    X = torch.rand(shape)
    X[..., 0, 0] = 0.5  # never clipped, so it shows the factor
    X[..., 0, 1] = 0.25
    X[..., 1, 0] = 0.9  # clipped at times
    Y = answer.tensor(X, amount, shape=shape)
    if Y.max() > 1 + 1e-5:
        raise ex.AnswerError("unclipped")
    factors = Y[..., 0, 0] / 0.5  # (n, channels)
    factor = factors[:, :1]
    if ex.same(Y, (X * factor[..., None, None]).clamp(0, 1)):
        return factor[:, 0]
    moved = Y - X
    if ex.same(moved[..., 0, 0], moved[..., 0, 1]) and moved.abs().max() > 1e-3:
        raise ex.AnswerError("added")
    if ex.same(Y, (X * factors[..., None, None]).clamp(0, 1)):
        raise ex.AnswerError("channels")
    alike = ex.same(factors, Y[..., 0, 1] / 0.25)
    raise ex.AnswerError("other" if alike else "pixels")


def _judge(factor: torch.Tensor, amount: float) -> None:
    low, high = 1 - amount, 1 + amount
    if factor.min() < low - 1e-4 or factor.max() > high + 1e-4:
        found, wanted = f"{factor.min():.2f} to {factor.max():.2f}", f"{low} and {high}"
        raise ex.AnswerError("range", found=found, wanted=wanted)
    if abs(factor.mean() - 1) > ex.SIGMAS * amount / (3 * len(factor)) ** 0.5:
        raise ex.AnswerError("centre", found=f"{factor.mean():.2f}")
    bins = ((factor - low) / (2 * amount) * BINS).long().clamp(0, BINS - 1)
    if ex.patterned(bins, BINS):
        raise ex.AnswerError("pattern")
    values = factor.unique().numel()
    if not ex.even(bins.bincount(minlength=BINS)) or values < len(factor) / 2:
        raise ex.AnswerError("uneven")
