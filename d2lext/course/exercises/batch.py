"""6.1: alternating flips."""

import torch

from d2lext.course import exercises as ex

WORDS = {
    "right": "a random half of the images is mirrored, then the other half, in turn.",
    "part": "half of the images should be mirrored; your function mirrors {found}.",
    "independent": "epoch 1 should mirror exactly those images that epoch 0 did not. "
    "Make the same random draw in every epoch.",
    "epochs": "epochs 0 and 1 are right, but epoch {found} is not. Even epochs should "
    "repeat epoch 0, and odd ones epoch 1.",
}
IMAGES = 20_001
MANY = 400_001  # enough to tell 49% from half


def check(answer: ex.Answer) -> None:
    _turns(answer, 5, 0)
    part = _turns(answer, MANY, 0).double().mean().item()
    off = abs(part - 0.5) > ex.SIGMAS * 0.5 / MANY**0.5
    ex.refuse("part", off, found=f"{part:.1%}")
    ex.refuse("pattern", ex.patterned(_turns(answer, IMAGES, 0)[None]))
    for n in (IMAGES, *ex.integers(1, 40, 4)):
        first = _turns(answer, n, 0)
        ex.refuse("independent", not torch.equal(_turns(answer, n, 1), ~first))
        for epoch in (3, 2, *ex.integers(1, 9, 4), *ex.integers(10, 400, 4)):
            turned = not torch.equal(_turns(answer, n, epoch), first ^ bool(epoch % 2))
            ex.refuse("epochs", turned, found=epoch)


def _turns(answer: ex.Answer, n: int, epoch: int) -> torch.Tensor:
    flips = answer.tensor(n, epoch, shape=(n,))
    wrong = flips.dtype != torch.bool
    ex.refuse("type", wrong, wanted="a tensor of bool", got=ex.kind(flips))
    return flips
