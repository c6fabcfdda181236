"""7.1: shares of an epoch."""

import itertools

import torch

from d2lext.course import exercises as ex

WORDS = {
    "right": "each example goes to one process, and all processes agree on the order.",
    "once": "of {n} examples, {missing} go to no process, and {twice} are dealt out "
    "again. Let all {size} processes shuffle with the same seed, and do not pad.",
    "uneven": "the shares differ by more than one example. Deal them out evenly.",
    "fixed": "some examples stay together, with one process, or in order too often. "
    "Shuffle all examples, then deal them out.",
    "seed": "different seeds give the same order. Shuffle with the seed.",
}
SEEDS = 400


def check(answer: ex.Answer) -> None:
    _dealt(answer, 7, 2, 0)
    for size in (4, 1, *ex.integers(2, 9, 3)):
        for n in (103, 3, *ex.integers(20, 60, 2)):
            _dealt(answer, n, size, *ex.integers(0, 10**6))
    seeds = [*range(4), *ex.integers(4, 10**6, SEEDS - 4)]
    orders = [_dealt(answer, 31, 3, seed) for seed in seeds]
    different = len(set(map(str, orders)))
    ex.refuse("seed", different < SEEDS / 4)
    for shares in zip(*orders, strict=True):  # of one process, for each seed
        for most in (31, 10):  # their order must be random, too
            parts = [torch.tensor(share[:most]) for share in shares]
            dealt = torch.stack([part.bincount(minlength=31) for part in parts])
            ex.refuse("fixed", not ex.fair(dealt, torch.zeros(31).long()))
    ex.refuse("seed", different < SEEDS)


def _dealt(answer: ex.Answer, n: int, size: int, seed: int) -> list[list[int]]:
    """The shares of all processes; they must partition the examples equally."""
    shares = [answer.indices(n, rank, size, seed, n=n) for rank in range(size)]
    sizes, different = list(map(len, shares)), len(set(itertools.chain(*shares)))
    twice, missing = sum(sizes) - different, n - different
    ex.refuse("once", twice or missing, n=n, size=size, twice=twice, missing=missing)
    ex.refuse("uneven", max(sizes) - min(sizes) > 1)
    return shares
