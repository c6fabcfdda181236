"""5.1: a validation set."""

import torch

from d2lext.course import exercises as ex

WORDS = {
    "right": "each class gives equally many images, and a seed repeats the draw.",
    "twice": "an image is held out {found} times. Hold out each image at most once.",
    "within": "your indices count within a class. Return positions in y.",
    "classes": "{found} images per class are held out; it should be {wanted}.",
    "unstable": "two calls with the same seed hold out different images. Draw with a "
    "generator that you seed with this seed.",
    "seed": "different seeds hold out the same images. Draw with the seed.",
    "uneven": "some images, or some pairs, are held out too often. Draw each image "
    "separately, with one generator for all classes, and make all equally likely.",
}
SEEDS = 400


def check(answer: ex.Answer) -> None:
    for num_classes in (10, 2, 9):
        # Small classes of unequal size, shuffled.
        counts = torch.tensor([8 + k % 3 for k in range(num_classes)])
        y = torch.arange(num_classes).repeat_interleave(counts)
        y, (per_class,) = y[torch.randperm(len(y))], ex.integers(4, 5)
        _held_out(answer, y, per_class, 0)
    seeds = [*range(4), *ex.integers(4, 10**6, SEEDS - 4)]
    held = torch.stack([_held_out(answer, y, per_class, seed) for seed in seeds])
    again = _held_out(answer, y, per_class, seeds[0])
    ex.refuse("unstable", not torch.equal(again, held[0]))
    different = len(held.unique(dim=0))
    ex.refuse("seed", different < SEEDS / 4)
    ex.refuse("uneven", not ex.fair(held, y))
    ex.refuse("seed", different < SEEDS)


def _held_out(answer: ex.Answer, y: torch.Tensor, per_class: int, seed: int):
    """Which images are held out, (n,) of 0 and 1; equally many of each class."""
    found = answer.indices(y, per_class, seed, n=len(y))
    held = torch.tensor(found, dtype=torch.int64).bincount(minlength=len(y))
    twice = held.max() > 1
    ex.refuse("within", twice and max(found) < y.bincount().max())
    ex.refuse("twice", twice, found=held.max())
    counts = y.bincount(held).long()
    found = f"{counts.min()} to {counts.max()}"
    ex.refuse("classes", (counts != per_class).any(), found=found, wanted=per_class)
    return held
