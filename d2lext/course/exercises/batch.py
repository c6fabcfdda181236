"""6.1: alternating flips."""

import torch

from d2lext.course import exercises as ex

WORDS = {
    "right": "a random half of the images is mirrored, then the other half, in turn.",
    "independent": "epoch 1 should mirror exactly those images that epoch 0 did not. "
    "Make the same random draw in every epoch.",
    "together": "in some epoch all images are mirrored, or none. Mirror half of them.",
    "constant": "epochs 0 and 1 mirror the same images. Mirror the others in epoch 1.",
    "part": "half of the images should be mirrored; your function mirrors {found}.",
    "regular": "your function mirrors half, but in a pattern. Choose them at random.",
    "epochs": "epochs 0 and 1 are right, but epoch {found} is not. Even epochs should "
    "repeat epoch 0, and odd ones epoch 1.",
}
IMAGES = 20_001
MANY = 400_001  # enough to tell 49% from half


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
