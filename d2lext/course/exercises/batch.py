"""6.1: alternating flips."""

import torch

from d2lext.course import exercises as ex

WORDS = {
    "right": "half of the images at first, then the other half, in turn.",
    "independent": "an epoch should mirror those that the one before did not. Draw the "
    "first from a seed of its own.",
    "together": "within an epoch all images are mirrored or none. Mirror half.",
    "constant": "every epoch mirrors the same images.",
    "part": "half of the images should be mirrored, found {found}.",
    "regular": "half of them are mirrored, but in a pattern. Draw which ones.",
    "epochs": "epochs 0 and 1 are right, but epoch {found} repeats neither.",
}
IMAGES = 20_001
MANY = 400_001  # so that 49% are not half


def check(answer: ex.Answer) -> None:
    _turns(answer, 5, 0)
    first, second = (_turns(answer, IMAGES, epoch) for epoch in (0, 1))
    ex.refuse("together", any(len(flips.unique()) == 1 for flips in (first, second)))
    part = _turns(answer, MANY, 0).double().mean().item()
    off = abs(part - 0.5) > ex.SIGMAS * 0.5 / MANY**0.5
    ex.refuse("part", off, found=f"{part:.1%}")
    ex.refuse("constant", torch.equal(first, second))
    ex.refuse("regular", ex.patterned(first))
    ex.refuse("independent", not torch.equal(second, ~first))
    for n in (IMAGES, *ex.integers(1, 40, 4)):
        first = _turns(answer, n, 0)
        for epoch in (3, 2, *ex.integers(1, 9, 4), *ex.integers(10, 400, 4)):
            turned = not torch.equal(_turns(answer, n, epoch), first ^ bool(epoch % 2))
            ex.refuse("epochs", turned, found=epoch)


def _turns(answer: ex.Answer, n: int, epoch: int) -> torch.Tensor:
    flips = answer.tensor(n, epoch, shape=(n,))
    wrong = flips.dtype != torch.bool
    ex.refuse("type", wrong, wanted="a tensor of bool", got=ex.kind(flips))
    return flips
