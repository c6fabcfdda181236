"""6.1: alternating flips."""

import torch

from d2lext.course import exercises as ex

WORDS = {
    "right": "half of the images at first, then the other half, in turn.",
    "independent": "an epoch should mirror just those that the one before did not; "
    "here it draws anew. Let the first draw depend on a seed of its own.",
    "together": "within an epoch all images are mirrored or none. About half of "
    "them should be.",
    "constant": "every epoch mirrors the same images.",
    "part": "half of the images should be mirrored, found {found}.",
    "regular": "half of them are mirrored, but in a pattern. Draw which ones.",
    "epochs": "epochs 0 and 1 are right, but epoch {found} does not repeat one of "
    "them.",
}
IMAGES = 20_001


def check(answer: ex.Answer) -> None:
    _turns(answer, 5, 0)
    first, second = (_turns(answer, IMAGES, epoch) for epoch in (0, 1))
    if any(flips.all() or not flips.any() for flips in (first, second)):
        raise ex.AnswerError("together")
    part = first.double().mean().item()
    if abs(part - 0.5) > ex.SIGMAS * 0.5 / IMAGES**0.5:
        raise ex.AnswerError("part", found=f"{part:.1%}")
    if torch.equal(first, second):
        raise ex.AnswerError("constant")
    if ex.patterned(first.long(), 2):
        raise ex.AnswerError("regular")
    if not torch.equal(second, ~first):
        raise ex.AnswerError("independent")
    for epoch in [*range(2, 8), *ex.integers(8, 400, 8), 1]:  # in no order
        if not torch.equal(_turns(answer, IMAGES, epoch), (first, second)[epoch % 2]):
            raise ex.AnswerError("epochs", found=epoch)
    for n in ex.integers(1, 40, 4):
        first = _turns(answer, n, 0)
        for epoch in ex.integers(1, 60, 4):
            if not torch.equal(_turns(answer, n, epoch), first ^ bool(epoch % 2)):
                raise ex.AnswerError("epochs", found=epoch)


def _turns(answer: ex.Answer, n: int, epoch: int) -> torch.Tensor:
    flips = answer.tensor(n, epoch, shape=(n,))
    if flips.dtype != torch.bool:
        raise ex.AnswerError("type", wanted="a tensor of bool", got=ex.kind(flips))
    return flips
