"""7.1: shares of an epoch."""

import itertools

import torch

from d2lext.course.exercises import Answer, AnswerError, even, integers

WORDS = {
    "right": "every example once, on one process, in an order that all agree on.",
    "missing": "with {size} processes {found} of {n} examples are left out.",
    "twice": "with {size} processes {found} of {n} examples come more than once. Do "
    "the processes shuffle with the same seed?",
    "padded": "{found} examples are dealt twice, to make the shares equal. Let the "
    "shares differ by one instead.",
    "fixed": "a process has the same examples for every seed, or examples that always "
    "come together. Shuffle all of them first, then deal.",
    "unshuffled": "the examples come in their order. Shuffle, with the seed.",
    "seed": "another seed gives the same order.",
    "uneven": "the shares differ by {found} examples; 1 is the most that is needed.",
}
SEEDS = 300


def check(answer: Answer) -> None:
    _dealt(answer, 7, 2, 0)
    for size in (4, 1, *integers(2, 9, 3)):
        for n in (103, 3, *integers(20, 60, 2)):
            _dealt(answer, n, size, *integers(0, 10**6))
    n, size, seeds = 31, 3, [*range(4), *integers(4, 10**6, SEEDS - 4)]
    orders = [_dealt(answer, n, size, seed) for seed in seeds]
    if len({tuple(map(tuple, shares)) for shares in orders}) < SEEDS:
        # Where the seed shuffles nothing, the fault is that, not the seed.
        rising = [b - a for a, b in itertools.pairwise(orders[0][0])]
        raise AnswerError("unshuffled" if len(set(rising)) < 4 else "seed")
    _judge(orders, n, size)


def _dealt(answer: Answer, n: int, size: int, seed: int) -> list[list[int]]:
    """The shares of all processes, if they are a partition and as equal as can be."""
    shares = [answer.indices(n, rank, size, seed, n=n) for rank in range(size)]
    together = [i for share in shares for i in share]
    sizes = [len(share) for share in shares]
    twice, differ = len(together) - len(set(together)), max(sizes) - min(sizes)
    if twice:
        key = "padded" if differ == 0 and twice < size else "twice"
        raise AnswerError(key, found=twice, n=n, size=size)
    if len(together) < n:
        raise AnswerError("missing", found=n - len(together), n=n, size=size)
    if differ > 1:
        raise AnswerError("uneven", found=differ)
    return shares


def _judge(orders: list[list[list[int]]], n: int, size: int) -> None:
    """Whether order and company of the examples are left to chance."""
    rank = torch.zeros(len(orders), n, dtype=torch.int64)
    for row, shares in zip(rank, orders, strict=True):
        for r, share in enumerate(shares):
            row[share] = r
    # Of 31 examples a share has 11, 10 and 10: how often one goes where, and how often
    # two that are so far apart go together.
    counts = torch.stack([(rank == r).sum(0) for r in range(size)], 1)  # (n, size)
    sizes = torch.tensor([len(share) for share in orders[0]])
    chance = (sizes * (sizes - 1)).sum() / (n * (n - 1))
    together = [(rank[:, d:] == rank[:, : n - d]).sum() for d in range(1, n)]
    pairs = chance * len(orders) * torch.arange(n - 1, 0, -1)
    fixed = not even(counts, len(orders) * sizes / n)
    if fixed or not even(torch.stack(together), pairs):
        raise AnswerError("fixed")
    steps = [b > a for s in orders for share in s for a, b in itertools.pairwise(share)]
    rising = torch.tensor([sum(steps), len(steps) - sum(steps)])
    if not even(rising):
        raise AnswerError("unshuffled")
