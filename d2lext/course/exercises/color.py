"""3.1: jitter in one factor."""

import torch

from d2lext.course import exercises as ex

WORDS = {
    "right": "each image gets one factor, uniform around 1, and is then clipped.",
    "unclipped": "some values are above 1. Clip them to the range from 0 to 1.",
    "added": "your function adds. Brightness *multiplies*, so black stays black.",
    "together": "all images share one factor. Draw a factor for each image.",
    "pixels": "the factor varies within an image, which adds noise. Draw one factor "
    "for all pixels of an image.",
    "channels": "each channel has its own factor. Use one factor for all three.",
    "range": "for this amount, factors should lie from {low} to {high}; found {found}.",
    "centre": "the mean factor should be 1; found {found}. Draw evenly around 1.",
    "uneven": "the factors do not cover their range uniformly. Draw them uniformly "
    "from 1 - amount to 1 + amount.",
}
BINS = 10
N = 3 * ex.N


def check(answer: ex.Answer) -> None:
    _factors(answer, 0.3, (2, 3, 3, 2))
    for low in (0.1, 0.6):
        amount = round(low + 0.2 * torch.rand(()).item(), 2)
        first, second = (_factors(answer, amount, (N, 3, 3, 2)) for _ in range(2))
        ex.refuse("together", ex.same(first, first[:1].expand(N)))
        ex.refuse("frozen", torch.equal(first, second))
        _judge(torch.cat([first, second]), amount)


def _factors(answer: ex.Answer, amount: float, shape: tuple[int, ...]) -> torch.Tensor:
    """The factor of each image (n,); each must have exactly one."""
    X = torch.rand(shape)
    X[..., 0, 0] = 0.5  # never clipped, so it reveals the factor
    X[..., 0, 1] = 0.4
    X[..., 1, 0] = 0.9  # sometimes clipped
    Y = answer.tensor(X, amount, shape=shape)
    ex.refuse("unclipped", Y.max() > 1 + 1e-5)
    factors = Y[..., :1, :1] / 0.5  # (n, channels, 1, 1)
    if not ex.same(Y, (X * factors[:, :1]).clamp(0, 1)):
        moved = (Y - X)[..., 0, :]
        added = ex.same(moved[..., 0], moved[..., 1]) and moved.abs().max() > 1e-3
        ex.refuse("added", added)
        ex.refuse("channels", ex.same(Y, (X * factors).clamp(0, 1)))
        ex.refuse("pixels", not ex.same(factors[..., 0, 0], Y[..., 0, 1] / 0.4))
        raise ex.AnswerError("other")
    return factors[:, 0, 0, 0]


def _judge(factor: torch.Tensor, amount: float) -> None:
    low, high, n = round(1 - amount, 2), round(1 + amount, 2), len(factor)
    found = f"{factor.min():.2f} to {factor.max():.2f}"
    outside = factor.min() < low - 1e-4 or factor.max() > high + 1e-4
    ex.refuse("range", outside, found=found, low=low, high=high)
    off = abs(factor.mean() - 1) > ex.SIGMAS * amount / (3 * n) ** 0.5
    ex.refuse("centre", off, found=f"{factor.mean():.2f}")
    ex.refuse("pattern", ex.patterned(factor))
    bins = ((factor - low) / (2 * amount) * BINS).long().clamp(0, BINS - 1)
    ex.refuse("uneven", not ex.even(bins.bincount(minlength=BINS)))
    # Squares of uniform draws from -1 to 1: mean 1 / 3, variance 1 / 5 - 1 / 9.
    square = ((factor - 1) / amount).square().mean()
    off = abs(square - 1 / 3) > ex.SIGMAS * (4 / 45 / n) ** 0.5
    ex.refuse("uneven", off or factor.unique().numel() < n / 2)
