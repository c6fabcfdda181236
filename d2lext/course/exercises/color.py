"""3.1: jitter in one factor."""

import torch

from d2lext.course import exercises as ex

WORDS = {
    "right": "each image gets one factor, uniform around 1, and is then clipped.",
    "unclipped": "some values are above 1. Clip them to the range from 0 to 1.",
    "pixels": "the factor varies within an image. Multiply all pixels of an image by "
    "one factor.",
    "channels": "each channel has its own factor. Use one factor for all three.",
    "range": "for this amount, factors should lie from {low} to {high}; found {found}.",
    "uneven": "the factors do not cover their range uniformly. Draw them uniformly "
    "from 1 - amount to 1 + amount.",
}


def check(answer: ex.Answer) -> None:
    _factors(answer, 0.3, (2, 3, 3, 2))
    for least in (0.1, 0.6):
        amount = round(least + 0.2 * torch.rand(()).item(), 2)
        factor = ex.draws(_factors, answer, amount, (3 * ex.N, 3, 3, 2))[0]
        low, high = round(1 - amount, 2), round(1 + amount, 2)
        outside = factor.min() < low - 1e-4 or factor.max() > high + 1e-4
        found = f"{factor.min():.2f} to {factor.max():.2f}"
        ex.refuse("range", outside, found=found, low=low, high=high)
        right = 1 + amount * (2 * torch.rand(30 * ex.N) - 1)
        ex.refuse("uneven", not ex.distributed(factor, right))


def _factors(answer: ex.Answer, amount: float, shape: tuple[int, ...]) -> torch.Tensor:
    """The factor of each image (1, n); each must have exactly one."""
    X = torch.rand(shape)
    X[..., 0, 0] = 0.5  # never clipped, so it reveals the factor
    X[..., 0, 1] = 0.4
    X[..., 1, 0] = 0.9  # sometimes clipped
    Y = answer.tensor(X, amount, shape=shape)
    ex.refuse("unclipped", Y.max() > 1 + 1e-5)
    factors = Y[..., :1, :1] / 0.5  # (n, channels, 1, 1)
    if not ex.same(Y, (X * factors[:, :1]).clamp(0, 1)):
        ex.refuse("channels", ex.same(Y, (X * factors).clamp(0, 1)))
        ex.refuse("pixels", not ex.same(factors[..., 0, 0], Y[..., 0, 1] / 0.4))
        raise ex.AnswerError("other")
    return factors[None, :, 0, 0, 0]
