"""7.1: shares of an epoch."""

import itertools

import torch

from d2lext.course import exercises as ex

WORDS = {
    "right": "each example goes to one process, and all processes agree on the order.",
    "missing": "with {size} processes, no process gets {found} of the {n} examples.",
    "twice": "with {size} processes, {found} of the {n} examples are dealt out more "
    "than once. Do all processes shuffle with the same seed?",
    "padded": "{found} examples are dealt out twice to make the shares equal. Let the "
    "shares differ by one instead.",
    "fixed": "some examples stay together, or with one process, too often. Shuffle "
    "all examples, then deal them out.",
    "unshuffled": "the examples keep their order. Shuffle them, with the seed.",
    "seed": "different seeds give the same order. Shuffle with the seed.",
    "uneven": "the shares differ by {found} examples. They should differ by at most 1.",
}
SEEDS = 300


def check(answer: ex.Answer) -> None:
    _dealt(answer, 7, 2, 0)
    for size in (4, 1, *ex.integers(2, 9, 3)):
        for n in (103, 3, *ex.integers(20, 60, 2)):
            _dealt(answer, n, size, *ex.integers(0, 10**6))
    seeds = [*range(4), *ex.integers(4, 10**6, SEEDS - 4)]
    orders = [_dealt(answer, 31, 3, seed) for seed in seeds]
    if len({str(shares) for shares in orders}) < SEEDS:
        # If no seed shuffles, report that instead.
        steps = {b - a for a, b in itertools.pairwise(orders[0][0])}
        raise ex.AnswerError("unshuffled" if len(steps) < 4 else "seed")
    _judge(orders, 31, 3)


def _dealt(answer: ex.Answer, n: int, size: int, seed: int) -> list[list[int]]:
    """The shares of all processes; they must partition the examples equally."""
    shares = [answer.indices(n, rank, size, seed, n=n) for rank in range(size)]
    sizes, values = list(map(len, shares)), {"n": n, "size": size}
    different = len(set(itertools.chain(*shares)))
    twice, missing = sum(sizes) - different, n - different
    differ = max(sizes) - min(sizes)
    ex.refuse("padded", not differ and 0 < twice < size, found=twice)
    ex.refuse("twice", twice, found=twice, **values)
    ex.refuse("missing", missing, found=missing, **values)
    ex.refuse("uneven", differ > 1, found=differ)
    return shares


def _judge(orders: list[list[list[int]]], n: int, size: int) -> None:
    """Chance must decide which examples share a process, and their order."""
    rank = torch.zeros(len(orders), n, dtype=torch.int64)
    for row, shares in zip(rank, orders, strict=True):
        for r, share in enumerate(shares):
            row[share] = r
    # How often each example goes to each process, and how often two at a distance d
    # share one.
    counts = torch.stack([(rank == r).sum(0) for r in range(size)], 1)  # (n, size)
    sizes = torch.tensor([len(share) for share in orders[0]])
    met = torch.stack([(rank[:, d:] == rank[:, : n - d]).sum() for d in range(1, n)])
    chance = (sizes * (sizes - 1)).sum() / (n * (n - 1)) * torch.arange(n - 1, 0, -1)
    ex.refuse("fixed", not ex.even(counts, len(orders) * sizes / n))
    ex.refuse("fixed", not ex.even(met, len(orders) * chance))
    steps = [b > a for s in orders for share in s for a, b in itertools.pairwise(share)]
    rising = torch.tensor([sum(steps), len(steps) - sum(steps)])
    ex.refuse("unshuffled", not ex.even(rising))
