"""9.1: a lambda for each image."""

import torch

from d2lext.course.exercises import SIGMAS, Answer, AnswerError, kind, patterned

WORDS = {
    "right": "each image has its own lambda, and its label has it too.",
    "one": "all images have the same lambda. Draw n of them.",
    "swapped": "lam belongs to the second image here; it is the share of x.",
    "labels": "y_b is not the label of the image that was mixed in. Use one "
    "permutation for both.",
    "partners": "an image was mixed in several times, or never. Use a permutation.",
    "range": "lambda should lie between 0 and 1; found {found}.",
    "unmixed": "the images come back as they were. Mix each with a partner.",
    "formula": "the mixture is not lam * x + (1 - lam) * x[index], with the "
    "lam that is returned.",
    "mean": "the mean lambda should be 0.5, found {found:.2f} for alpha {alpha}. Is it "
    "Beta(alpha, alpha)?",
    "beta": "lambda has the wrong spread for alpha {alpha}: its variance should be "
    "{wanted:.3f}, found {found:.3f}. Is it Beta(alpha, alpha)?",
}
BINS = 10


def check(answer: Answer) -> None:
    _lams(answer, 12, 1.0)
    for n, alpha in ((600, 0.5), (601, 0.2), (600, 2.0), (601, 1.0)):
        lams = [_lams(answer, n, alpha) for _ in range(3)]
        if torch.equal(lams[0], lams[1]):
            raise AnswerError("frozen")
        _judge(torch.cat(lams), alpha)


def _judge(lam: torch.Tensor, alpha: float) -> None:
    variance = 1 / (4 * (2 * alpha + 1))
    if abs(lam.mean() - 0.5) > SIGMAS * (variance / len(lam)) ** 0.5:
        raise AnswerError("mean", found=lam.mean().item(), alpha=alpha)
    right = torch.distributions.Beta(alpha, alpha).sample((20_000,)).sort().values
    # The largest distance between the two distributions: by chance beyond this once
    # in 10**9 times (Kolmogorov and Smirnov).
    below = torch.searchsorted(right, lam.sort().values.float()) / len(right)
    distance = (below - torch.linspace(0, 1, len(lam))).abs().max()
    if distance > 3.3 * (1 / len(lam) + 1 / len(right)) ** 0.5:
        found = lam.var().item()
        raise AnswerError("beta", wanted=variance, found=found, alpha=alpha)
    if patterned((lam.argsort().argsort() * BINS // len(lam)), BINS):
        raise AnswerError("pattern")


def _lams(answer: Answer, n: int, alpha: float) -> torch.Tensor:
    """The lambdas of one call, if all else of it is right."""
    x, y = torch.randn(n, 3, 3, 2), torch.randperm(n)  # labels all differ
    result = answer(x, y, alpha)
    try:
        mixed, y_a, y_b, lam = map(torch.as_tensor, result)
    except (TypeError, ValueError, RuntimeError):
        wanted = "mixed, y_a, y_b, lam"
        raise AnswerError("type", wanted=wanted, got=kind(result)) from None
    if lam.numel() == 1 or (lam == lam.flatten()[0]).all():
        raise AnswerError("one")
    for tensor, shape in ((lam, (n,)), (mixed, x.shape), (y_a, (n,)), (y_b, (n,))):
        if tensor.shape != torch.Size(shape):
            raise AnswerError("shape", wanted=tuple(shape), got=tuple(tensor.shape))
    lam, mixed = lam.double(), mixed.detach().double().flatten(1)
    if lam.min() < 0 or lam.max() > 1:
        raise AnswerError("range", found=f"{lam.min():.2f} to {lam.max():.2f}")
    if not torch.equal(y_a, y):
        raise AnswerError("labels")
    images = x.double().flatten(1)
    partner, shown = _partner(mixed, lam, images)
    if partner is None:
        swapped, _ = _partner(mixed, 1 - lam, images)
        raise AnswerError("formula" if swapped is None else "swapped")
    if (partner == torch.arange(n))[shown].double().mean() > 0.8:
        raise AnswerError("unmixed")
    if partner[shown].unique().numel() != shown.sum():
        raise AnswerError("partners")
    if not torch.equal(y_b[shown], y[partner[shown]]):
        raise AnswerError("labels")
    return lam


def _partner(mixed, lam, images) -> tuple[torch.Tensor | None, torch.Tensor]:
    """Which image was mixed into each; None if it is none; and where it shows."""
    shown, lam = lam < 0.99, lam[:, None]
    rest = (mixed - lam * images) / (1 - lam).clamp_min(0.01)
    distance, partner = torch.cdist(rest, images).min(1)
    return (partner if (distance[shown] < 1e-3).all() else None), shown
