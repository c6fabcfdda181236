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
    "first": "some images are never held out. Draw from all images of a class.",
    "uneven": "some images are held out more often than others of their class. Make "
    "them all equally likely.",
    "block": "your function holds out neighbours together, or images at the same "
    "places in every class. Draw each image separately.",
}
SEEDS = 400


def check(answer: ex.Answer) -> None:
    for num_classes in (10, 2, 5):
        # Classes of unequal size, shuffled.
        counts = torch.tensor([20 + k % 5 for k in range(num_classes)])
        y = torch.arange(num_classes).repeat_interleave(counts)
        y, (per_class,) = y[torch.randperm(len(y))], ex.integers(4, 6)
        _held_out(answer, y, per_class, 0)
    seeds = [*range(4), *ex.integers(4, 10**6, SEEDS - 4)]
    held = torch.stack([_held_out(answer, y, per_class, seed) for seed in seeds])
    again = _held_out(answer, y, per_class, seeds[0])
    ex.refuse("unstable", not torch.equal(again, held[0]))
    different = len(held.unique(dim=0))
    if different > 0.75 * SEEDS:
        _judge(held, y, per_class)
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
    return held.double()


def _judge(held: torch.Tensor, y: torch.Tensor, per_class: int) -> None:
    """Each image and each pair must be held out as often as chance allows."""
    times, size, n = held.sum(0), y.bincount()[y], len(y)
    ex.refuse("first", (times == 0).any())
    rank = torch.stack([(y[:i] == k).sum() for i, k in enumerate(y)])
    alike, off = y[:, None] == y, ~torch.eye(n, dtype=torch.bool)
    without = (1 - 1 / per_class) / (1 - 1 / size)  # draws are without replacement
    pairs = times[:, None] * times / SEEDS * torch.where(alike, without, 1)
    apart = ((rank[:, None] - rank).abs() + 100 * alike)[off]
    found, expected = (apart.bincount(k[off]) for k in (held.T @ held, pairs))
    some = expected > 50
    ex.refuse("block", not ex.even(found[some], expected[some]))
    part = per_class / size
    ex.refuse("uneven", not ex.even(times, SEEDS * part))
    # Chi-squared finds many small deviations; draws are without replacement.
    spread = SEEDS * part * (1 - part) * size / (size - 1)
    squares, free = ((times - SEEDS * part) ** 2 / spread).sum(), n - len(y.unique())
    chance = torch.special.gammaincc(torch.tensor(free / 2).double(), squares / 2)
    ex.refuse("uneven", chance < 1e-9)
