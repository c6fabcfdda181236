"""5.1: a validation set."""

import torch

from d2lext.course.exercises import Answer, AnswerError, even, integers

WORDS = {
    "right": "as many of each class, at random, and the same again for a seed.",
    "twice": "an image is held out {found} times.",
    "within": "the indices count within a class; they should count in y.",
    "classes": "of the classes {found} images are held out, not {wanted} each. "
    "Draw within each class.",
    "unstable": "the same seed holds out other images in the next call.",
    "seed": "another seed holds out the same images.",
    "first": "some images are held out for no seed. Draw from all of a class.",
    "uneven": "some images are held out more often than others of their class.",
    "block": "images are held out in blocks, or each class in the same way. Draw "
    "every image by itself.",
}
SEEDS = 400


def check(answer: Answer) -> None:
    for num_classes in (10, 2, 5):
        # Unequal classes, in no order.
        counts = [20 + k % 5 for k in range(num_classes)]
        y = torch.repeat_interleave(torch.arange(num_classes), torch.tensor(counts))
        y, (per_class,) = y[torch.randperm(len(y))], integers(4, 6)
        _held_out(answer, y, per_class, 0)
    seeds = [*range(4), *integers(4, 10**6, SEEDS - 4)]
    held = torch.zeros(SEEDS, len(y))
    for row, seed in zip(held, seeds, strict=True):
        row[_held_out(answer, y, per_class, seed)] = 1
    again = _held_out(answer, y, per_class, seeds[0])
    if len(again) != held[0, again].sum():
        raise AnswerError("unstable")
    different = len(held.unique(dim=0))
    if different > 0.75 * SEEDS:
        _judge(held, y, per_class)
    if different < SEEDS:
        raise AnswerError("seed")


def _held_out(answer: Answer, y: torch.Tensor, per_class: int, seed: int) -> list[int]:
    found, counts = answer.indices(y, per_class, seed, n=len(y)), y.bincount()
    if len(set(found)) < len(found):
        if max(found) < max(counts):
            raise AnswerError("within")
        raise AnswerError("twice", found=max(found.count(i) for i in found))
    held = y[torch.tensor(found, dtype=torch.int64)].bincount(minlength=len(counts))
    if (held != per_class).any():
        shown = f"{min(held)} to {max(held)}"
        raise AnswerError("classes", found=shown, wanted=per_class)
    return found


def _judge(held: torch.Tensor, y: torch.Tensor, per_class: int) -> None:
    """Whether each image, and each pair, is held out as often as by chance."""
    times, size = held.sum(0), y.bincount()[y]  # (n,)
    if (times == 0).any():
        raise AnswerError("first")
    rank = torch.stack([(y[:i] == k).sum() for i, k in enumerate(y)])
    pairs = times[:, None] * times / SEEDS
    alike = y[:, None] == y
    without = (1 - 1 / per_class) / (1 - 1 / size)  # none is drawn twice
    pairs = torch.where(alike, pairs * without, pairs)
    apart = (rank[:, None] - rank).abs() + 100 * alike
    both, off = held.T @ held, ~torch.eye(len(y), dtype=torch.bool)
    found, expected = (
        apart[off].bincount(counts[off], minlength=200) for counts in (both, pairs)
    )
    if not even(found[expected > 50], expected[expected > 50]):
        raise AnswerError("block")
    if not even(times, SEEDS * per_class / size):
        raise AnswerError("uneven")
