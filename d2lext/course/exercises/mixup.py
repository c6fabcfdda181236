"""9.1: a lambda for each image."""

import torch

from d2lext.course import exercises as ex

WORDS = {
    "right": "each image has its own lambda, which also weights its two labels.",
    "swapped": "your lam is the weight of the second image. Make it the weight of x.",
    "labels": "y_a should be y, and y_b a permutation of it.",
    "unmixed": "most images are mixed with themselves. Give each a random partner.",
    "formula": "the batch should be lam * x + (1 - lam) * x[index], and y_b should be "
    "y[index]. Return that lam.",
    "beta": "lambda does not follow Beta(alpha, alpha). For alpha {alpha} its mean "
    "should be 0.5 and its variance {wanted:.3f}; found {mean:.3f} and {found:.3f}.",
}


def check(answer: ex.Answer) -> None:
    _lams(answer, 12, 1.0)
    for n, alpha in ((1500, 0.5), (1501, 0.2), (1500, 2.0), (1501, 1.0)):
        lam = ex.draws(_lams, answer, n, alpha)[0]
        right = torch.distributions.Beta(alpha, alpha).sample((20_000,))
        wrong = not ex.distributed(lam, right)
        values = {"alpha": alpha, "wanted": 1 / (4 * (2 * alpha + 1))}
        ex.refuse("beta", wrong, mean=lam.mean(), found=lam.var(), **values)


def _lams(answer: ex.Answer, n: int, alpha: float) -> torch.Tensor:
    """The lambdas (1, n) of a call; everything else in it must be right."""
    x, y = torch.randn(n, 3, 3, 2), torch.randperm(n)  # all labels differ
    result = answer(x, y, alpha)
    try:
        mixed, y_a, y_b, lam = map(torch.as_tensor, result)
    except (TypeError, ValueError, RuntimeError):
        wanted = "mixed, y_a, y_b, lam"
        raise ex.AnswerError("type", wanted=wanted, got=ex.kind(result)) from None
    for tensor, wanted in ((lam, (n,)), (mixed, x.shape), (y_a, (n,)), (y_b, (n,))):
        got = tuple(tensor.shape)
        ex.refuse("shape", got != tuple(wanted), wanted=tuple(wanted), got=got)
    ex.refuse("labels", not torch.equal(y_a, y))
    ex.refuse("labels", not torch.equal(y_b.sort().values, torch.arange(n)))
    index, weight = y.argsort()[y_b], lam.reshape(n, 1, 1, 1)  # labels tell the images
    ex.refuse("unmixed", (index == torch.arange(n)).double().mean() > 0.8)
    ours, swapped = (w * x + (1 - w) * x[index] for w in (weight, 1 - weight))
    ex.refuse("swapped", ex.same(mixed, swapped))
    ex.refuse("formula", not ex.same(mixed, ours))
    return lam[None]
