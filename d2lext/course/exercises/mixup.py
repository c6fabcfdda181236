"""9.1: a lambda for each image."""

import torch

from d2lext.course import exercises as ex

WORDS = {
    "right": "each image has its own lambda, which also weights its two labels.",
    "one": "all images share one lambda. Draw n of them.",
    "swapped": "your lam is the weight of the second image. Make it the weight of x.",
    "labels": "y_a should be y, and y_b the labels of the images mixed in. Use one "
    "permutation for images and labels.",
    "partners": "an image is mixed in more than once. Use a permutation.",
    "range": "lambda should lie between 0 and 1; found {found}.",
    "unmixed": "most images are mixed with themselves. Give each a random partner.",
    "formula": "the batch should be lam * x + (1 - lam) * x[index]; return that lam.",
    "mean": "for alpha {alpha}, the mean of lambda should be 0.5; found {found:.2f}.",
    "beta": "lambda does not follow Beta(alpha, alpha). For alpha {alpha} its "
    "variance should be {wanted:.3f}; found {found:.3f}.",
}


def check(answer: ex.Answer) -> None:
    _lams(answer, 12, 1.0)
    for n, alpha in ((1000, 0.5), (1001, 0.2), (1000, 2.0), (1001, 1.0)):
        lams = [_lams(answer, n, alpha) for _ in range(3)]
        ex.refuse("frozen", torch.equal(lams[0], lams[1]))
        _judge(torch.cat(lams), alpha)


def _judge(lam: torch.Tensor, alpha: float) -> None:
    n, mean, variance = len(lam), lam.mean().item(), 1 / (4 * (2 * alpha + 1))
    sigmas, tails = ex.SIGMAS / n**0.5, (2 - 6 / (2 * alpha + 3)) ** 0.5
    off = abs(mean - 0.5) > sigmas * variance**0.5
    ex.refuse("mean", off, found=mean, alpha=alpha)
    right = torch.distributions.Beta(alpha, alpha).sample((20_000,)).sort().values
    # The Kolmogorov-Smirnov distance between the two distributions; by chance, one in
    # 10**9 is larger.
    below = torch.searchsorted(right, lam.sort().values.float()) / len(right)
    distance = (below - torch.linspace(0, 1, n)).abs().max()
    wrong, found = distance > 3.3 * (1 / n + 1 / len(right)) ** 0.5, lam.var().item()
    wrong |= abs(found - variance) > sigmas * tails * variance
    ex.refuse("beta", wrong, wanted=variance, found=found, alpha=alpha)
    ex.refuse("pattern", ex.patterned(lam))


def _lams(answer: ex.Answer, n: int, alpha: float) -> torch.Tensor:
    """The lambdas of one call; everything else in it must be right."""
    x, y = torch.randn(n, 3, 3, 2), torch.randperm(n)  # all labels differ
    result = answer(x, y, alpha)
    try:
        mixed, y_a, y_b, lam = map(torch.as_tensor, result)
    except (TypeError, ValueError, RuntimeError):
        wanted = "mixed, y_a, y_b, lam"
        raise ex.AnswerError("type", wanted=wanted, got=ex.kind(result)) from None
    ex.refuse("one", len(lam.unique()) == 1)
    for tensor, wanted in ((lam, (n,)), (mixed, x.shape), (y_a, (n,)), (y_b, (n,))):
        got = tuple(tensor.shape)
        ex.refuse("shape", got != tuple(wanted), wanted=tuple(wanted), got=got)
    found = f"{lam.min():.2f} to {lam.max():.2f}"
    ex.refuse("range", lam.min() < 0 or lam.max() > 1, found=found)
    ex.refuse("labels", not torch.equal(y_a, y))
    lam, mixed, x = lam.double(), mixed.detach().double().flatten(1), x.flatten(1)
    partner = _partners(mixed, lam, x.double())
    if partner is None:
        ex.refuse("swapped", _partners(mixed, 1 - lam, x.double()) is not None)
        raise ex.AnswerError("formula")
    shown = partner >= 0
    ex.refuse("unmixed", (partner == torch.arange(n))[shown].double().mean() > 0.8)
    ex.refuse("partners", len(partner[shown].unique()) < shown.sum())
    ex.refuse("labels", not torch.equal(y_b[shown], y[partner[shown]]))
    return lam


def _partners(mixed, lam, x) -> torch.Tensor | None:
    """The image mixed into each (-1 if invisible); None if there is none."""
    shown, lam = lam < 0.99, lam[:, None]
    rest = (mixed - lam * x) / (1 - lam).clamp_min(0.01)
    distance, partner = torch.cdist(rest, x).min(1)
    return torch.where(shown, partner, -1) if (distance[shown] < 1e-3).all() else None
