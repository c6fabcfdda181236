"""Each check against right answers of several kinds, and against wrong ones."""

import importlib
import itertools
import re
import threading
import time
from pathlib import Path

import nbformat
import numpy as np
import pytest
import torch
from torch.nn import functional as F

import d2lext
from d2lext.course import exercises
from d2lext.course.answers import TEXT_STUB
from d2lext.course.exercises import LESSONS, verdict
from d2lext.runs import content

NOTEBOOKS = Path(__file__).resolve().parent.parent / "notebooks"
WORDS = {
    id: importlib.import_module(f"d2lext.course.exercises.{name}").WORDS
    for id, name in LESSONS.items()
}


@pytest.fixture(autouse=True)
def patience(monkeypatch) -> None:
    """A busy machine may take its time."""
    monkeypatch.setattr(exercises, "LIMIT", 120)


def flip_np(X):
    return torch.from_numpy(np.flip(X.numpy(), 3).copy())


def flip_in_place(X):
    X[:] = X.flip(3)
    return X


def flip_some(which):
    """Mirror only some images: those where which(n) is true."""
    return lambda X: torch.where(which(len(X)).reshape(-1, 1, 1, 1), X.flip(3), X)


def flip_halves(X):
    """Exchange the outer columns, and lose the middle one."""
    Y, half = torch.zeros_like(X), X.shape[3] // 2
    Y[..., :half] = X.flip(3)[..., :half]
    Y[..., -half:] = X.flip(3)[..., -half:]
    return Y


def flip_by_height(X):
    columns = torch.arange(X.shape[2] - 1, -1, -1) % X.shape[3]
    return X[..., columns]


def cropped(X, size, rows, columns):
    """Crops (n, 3, size, size) that begin at rows and columns, (n,) or (n, 3)."""
    n, c, _, w = X.shape
    rows, columns = (
        torch.as_tensor(k).reshape(n, -1).expand(n, c) for k in (rows, columns)
    )
    piece = torch.arange(size)[:, None] * w + torch.arange(size)
    index = (rows * w + columns)[..., None] + piece.flatten()
    return X.flatten(2).gather(2, index).reshape(n, c, size, size)


def draw(X, size, axis, shape=None, low=0, high=1, **how):
    return torch.randint(low, X.shape[axis] - size + high, shape or (len(X),), **how)


def crop(rows, columns=None):
    """A crop from functions of X, size and the axis that draw where it begins."""
    columns = columns or rows
    return lambda X, size: cropped(X, size, rows(X, size, 2), columns(X, size, 3))


def crop_one_by_one(X, size):
    from torchvision.transforms import RandomCrop

    return torch.stack([RandomCrop(size)(x) for x in X])


def crop_diagonal(X, size):
    place = torch.randint(min(X.shape[2:]) - size + 1, (len(X),))
    return cropped(X, size, place, place)


def seeded_draw(X, size, axis):
    return draw(X, size, axis, generator=torch.Generator().manual_seed(3))


def crop_seeded(X, size):
    torch.manual_seed(time.time_ns() % 2**31)
    return crop(draw)(X, size)


def in_cycle(X, size, axis):
    return (torch.arange(len(X)) + torch.randint(9, ())) % (X.shape[axis] - size + 1)


def in_pairs(X, size, axis):
    return draw(X, size, axis).repeat_interleave(2)[: len(X)]


def twice(X, size, axis):
    drawn = draw(X, size, axis)[: -(-len(X) // 2)]
    return drawn.repeat(2)[: len(X)]


def triangular(X, size, axis):
    return (draw(X, size, axis) + draw(X, size, axis)) // 2


def bright(factor, clip=True, add=False):
    def answer(X, amount):
        drawn = factor(X, amount)
        Y = X + drawn - 1 if add else X * drawn
        return Y.clamp(0, 1) if clip else Y

    return answer


def uniform(*shape, pick=lambda k: k):
    """Factors drawn evenly: of n numbers, or of a shape, in which None stands for n."""

    def factor(X, amount):
        n = [len(X) if k is None else k for k in shape or (None, 1, 1, 1)]
        return pick(1 + amount * (2 * torch.rand(n) - 1))

    return factor


def bright_frozen(X, amount):
    generator = torch.Generator().manual_seed(1)
    factor = torch.empty(len(X), 1, 1, 1)
    factor.uniform_(1 - amount, 1 + amount, generator=generator)
    return (X * factor).clamp(0, 1)


def by_neighbours(factor):
    return factor.repeat_interleave(2, 0)[: len(factor)]


def two_values(X, amount):
    return 1 + amount * (2 * torch.randint(2, (len(X), 1, 1, 1)) - 1)


def eleven_values(X, amount):
    return 1 + amount * (torch.randint(11, (len(X), 1, 1, 1)) / 5 - 1)


def plain(X):
    return X


def mirrored(X):
    return X.flip(3)


def views(*how, join=lambda p: sum(p) / len(p), out=lambda X: X.softmax(1)):
    return lambda net, X: join([out(net(view(X))) for view in how])


def stacked_views(net, X):
    net.eval()
    with torch.no_grad():
        both = net(torch.cat([X, X.flip(-1)])).softmax(1)
    return both.reshape(2, len(X), -1).mean(0)


def one_by_one(net, X):
    return torch.cat([views(plain, mirrored)(net, x[None]) for x in X])


def width_for_height(X):
    return X[..., torch.arange(X.shape[2] - 1, -1, -1) % X.shape[3]]


def order(n, seed):
    return torch.randperm(n, generator=torch.Generator().manual_seed(seed))


def held_out(draw=order, per=lambda k: k):
    """Of each class the first ones of an order, drawn with the seed."""

    def answer(y, per_class, seed):
        order = draw(len(y), seed)
        return torch.cat([order[y[order] == k][: per(per_class)] for k in y.unique()])

    return answer


def held_out_np(y, per_class, seed):
    rng = np.random.default_rng(seed)
    classes = [(y == k).nonzero().flatten().numpy() for k in y.unique()]
    return [i for c in classes for i in rng.choice(c, per_class, replace=False)]


def held_out_by(pick):
    """From each class the images at pick(size, per_class, seed)."""

    def answer(y, per_class, seed):
        classes = [(y == k).nonzero().flatten() for k in y.unique()]
        return torch.cat([c[pick(len(c), per_class, seed)] for c in classes])

    return answer


def block(size, per_class, seed):
    return (order(size, seed)[0] + torch.arange(per_class)) % size


def first_part(size, per_class, seed):
    return order(15, seed)[:per_class]


def same_ranks(size, per_class, seed):
    drawn = order(99, seed)
    return drawn[drawn < size][:per_class]


def weighted(size, per_class, seed):
    p = np.arange(1, size + 1) / (size * (size + 1) / 2)
    return np.random.default_rng([seed, size]).choice(size, per_class, False, p)


def unstable(y, per_class, seed):
    return held_out()(y, per_class, time.time_ns() % 2**32)


def seeding(answer):
    """The answer, with the program's generator in place of one of its own."""

    def again(*args):
        torch.manual_seed(args[-1])
        return answer(*args)

    return again


def turns(n, epoch):
    start = np.random.default_rng(7).random(n) < 0.5
    return torch.from_numpy(start ^ bool(epoch % 2))


def turns_of(first):
    return lambda n, epoch: first(n) ^ bool(epoch % 2)


def half_exactly(n):
    return order(n, 5) < n // 2


def shards(n, rank, world_size, seed):
    return np.array_split(np.random.default_rng(seed).permutation(n), world_size)[rank]


def shards_in_blocks(n, rank, world_size, seed):
    """Neighbours stay together."""
    pairs = list(torch.arange(n).split(2))
    mixed = torch.cat([pairs[i] for i in order(len(pairs), seed)])
    return mixed[rank * n // world_size : (rank + 1) * n // world_size]


def shards_sorted(n, rank, world_size, seed):
    return sorted(shards(n, rank, world_size, seed))


LESSON = content("sample_policies.json")["runs"]
BEST = next(run for run in LESSON if run["policy"] == "all")


def tried(*held, accs=(0.98, 0.97, 0.96, 0.97, 0.98), seeds=range(10, 15), **changed):
    """Runs on held-out images, by default of one policy, and then its confirmation."""
    changed = {"policy": "flip+rescale"} | changed
    held = held or ({},)
    tries = [
        BEST | changed | {"num_val": 1000, "seed": 0, "test_acc": [0.9]} | more
        for more in held
    ]
    confirmed = [
        BEST | changed | {"num_val": 0, "seed": seed, "test_acc": [0.1, acc]}
        for seed, acc in zip(seeds, accs, strict=True)
    ]
    return lambda: tries + confirmed


TEN = [{"lr": 0.001 * (k + 1), "test_acc": [0.5]} for k in range(10)]


def mixed(
    lams=lambda n, alpha: torch.distributions.Beta(alpha, alpha).sample((n,)),
    mix=lambda w, x, other: w * x + (1 - w) * other,
    index=torch.randperm,
    labels=lambda y, index: y[index],
):
    def answer(x, y, alpha):
        lam, other = lams(len(x), alpha), index(len(x))
        w = lam.reshape(-1, 1, 1, 1)
        return mix(w, x, x[other]), y, labels(y, other), lam

    return answer


def beta(a, b):
    """lambdas of Beta(a, b), where a and b are functions of alpha."""
    return lambda n, alpha: torch.distributions.Beta(a(alpha), b(alpha)).sample((n,))


def beta_pairs(n, alpha):
    lam = torch.distributions.Beta(alpha, alpha).sample((n // 2 + 1,))
    return lam.repeat_interleave(2)[:n]


def mixed_frozen(x, y, alpha):
    lam = torch.from_numpy(np.random.default_rng(1).beta(alpha, alpha, len(x)))
    return mixed(lambda n, alpha: lam)(x, y, alpha)


def scores(recall=True, precision=True, zero=1, swap=False, empty=0.0):
    def answer(guess, truth):
        hits = float((guess & truth).sum())
        there, found = truth.sum().item(), guess.sum().item()
        numbers = (
            (hits / max(zero, there) if there or not zero else empty)
            if recall is True
            else recall,
            (hits / max(zero, found) if found or not zero else empty)
            if precision is True
            else precision,
        )
        return numbers[::-1] if swap else numbers

    return answer


def accuracy(guess, truth):
    return scores()(guess, truth)[0], (guess == truth).float().mean()


def f1(guess, truth):
    recall, precision = scores()(guess, truth)
    return recall, 2 * recall * precision / max(1e-9, recall + precision)


RIGHT = {
    "1.1": [flip_np, lambda X: X[..., torch.arange(X.shape[-1] - 1, -1, -1)]],
    "2.1": [crop_one_by_one, crop(draw)],
    "3.1": [
        lambda X, amount: torch.minimum(X * uniform()(X, amount), torch.ones(())),
        lambda X, a: (X * np.random.uniform(1 - a, 1 + a, (len(X), 1, 1, 1))).clip(
            0, 1
        ),
    ],
    "4.1": [stacked_views, views(plain, mirrored), one_by_one],
    "5.1": [held_out_np, held_out()],
    "6.1": [turns, turns_of(half_exactly)],
    "7.1": [shards],
    "8.1": [
        tried(),
        tried(policy="all", mixup_alpha=0.2),
        tried({}, *TEN[:7]),
        tried(accs=(0.935, 0.93, 0.93, 0.925, 0.93)),
    ],
    "9.1": [
        mixed(),
        mixed(lambda n, a: torch.from_numpy(np.random.beta(a, a, n))),
        mixed(index=lambda n: torch.arange(n).roll(1)),
    ],
    "10.1": [scores(), lambda g, t: torch.tensor(scores()(g, t))],
}
# Of each exercise: wrong answers, and the hints that they should get.
WRONG = {
    "1.1": [
        ("same", lambda X: X.clone()),
        ("upside", lambda X: X.flip(2)),
        ("upside", lambda X: X.flip((2, 3))),
        ("channels", lambda X: X.flip(1)),
        ("order", lambda X: X.flip(0)),
        ("order", lambda X: X.flip(0, 3)),
        ("written", flip_in_place),
        ("shape", lambda X: X[0].flip(2)),
        ("shape", lambda X: X.flip(3)[..., 1:]),
        ("type", lambda X: X.flip(3).double()),
        ("none", lambda X: None),
        ("raised", lambda X: X[:, :, :, ::-1]),
        ("other", lambda X: X * 0),
        ("other", lambda X: X.roll(1, 3)),
        ("part", lambda X: X.flip(3) if torch.rand(()) < 0.8 else X),
        ("part", flip_some(lambda n: torch.rand(n) < 0.5)),
        ("part", flip_some(lambda n: torch.arange(n) == 0)),
        ("middle", flip_halves),
        ("shape", flip_by_height),
    ],
    "2.1": [
        (
            "together",
            crop(lambda X, s, axis: draw(X, s, axis, (1, 1)).expand(len(X), 1)),
        ),
        ("together", crop(draw, lambda X, s, axis: torch.ones(len(X)).long())),
        ("first", crop(lambda *args: draw(*args, low=1))),
        ("last", crop(lambda *args: draw(*args, high=0))),
        ("diagonal", crop_diagonal),
        ("frozen", crop(seeded_draw)),
        ("seeds", crop_seeded),
        ("mixed", lambda X, s: crop(draw)(X.flip(0), s)),
        ("mixed", lambda X, s: crop(draw)(X, s).transpose(2, 3)),
        ("shape", lambda X, s: crop(draw)(X, s - 1)),
        ("uneven", crop(triangular)),
        ("channels", crop(lambda X, s, axis: draw(X, s, axis, (len(X), 3)))),
        ("pattern", crop(in_pairs)),
        ("pattern", crop(twice)),
        ("pattern", crop(draw, in_cycle)),
    ],
    "3.1": [
        ("unclipped", bright(uniform(), clip=False)),
        ("added", bright(uniform(), add=True)),
        ("together", bright(uniform(1, 1, 1, 1))),
        ("pixels", bright(uniform(None, 1, 3, 2))),
        ("range", bright(lambda X, a: 2 * torch.rand(len(X), 1, 1, 1))),
        ("range", bright(lambda X, a: uniform()(X, 0.4))),
        ("centre", bright(lambda X, a: 1 - a * torch.rand(len(X), 1, 1, 1))),
        ("centre", bright(uniform(pick=lambda f: f.clamp(max=1.05)))),
        ("channels", bright(uniform(None, 3, 1, 1))),
        ("uneven", bright(two_values)),
        ("uneven", bright(lambda X, a: uniform()(X, a / 2))),
        ("uneven", bright(eleven_values)),
        ("frozen", bright_frozen),
        ("pattern", bright(uniform(pick=by_neighbours))),
        ("pattern", bright(uniform(pick=lambda f: f.sort(0).values))),
        ("seeds", lambda X, a: (torch.seed(), bright(uniform())(X, a))[1]),
        ("other", lambda X, a: (X * uniform()(X, a)).clamp(0, 0.95)),
    ],
    "4.1": [
        ("plain", views(plain)),
        ("mirrored", views(mirrored)),
        ("logits", views(plain, mirrored, out=plain)),
        ("logits", views(plain, mirrored, join=lambda p: sum(p).softmax(1), out=plain)),
        ("sum", views(plain, mirrored, join=sum)),
        ("labels", lambda net, X: views(plain, mirrored)(net, X).argmax(1)),
        ("upside", views(plain, lambda X: X.flip(2))),
        ("upside", views(plain, lambda X: X.flip(2, 3))),
        ("drawn", views(plain, lambda X: X.flip(3) if torch.rand(()) < 0.5 else X)),
        ("raised", views(plain, width_for_height)),
        ("images", lambda net, X: net((X + X.flip(3)) / 2).softmax(1)),
        ("classes", views(plain, mirrored, out=lambda X: X.softmax(0))),
        ("other", views(plain, mirrored, join=lambda p: torch.maximum(*p))),
        ("other", views(plain, mirrored, out=lambda X: X.log_softmax(1))),
        ("shape", views(plain, mirrored, join=torch.cat)),
    ],
    "5.1": [
        ("seed", held_out(lambda n, s: torch.arange(n))),
        ("seed", lambda y, k, s: held_out()(y, k, 0)),
        ("seed", lambda y, k, s: held_out()(y, k, s % 2)),
        ("unstable", unstable),
        ("seeds", seeding(lambda y, k, s: held_out()(y, k, s))),
        ("classes", lambda y, k, s: order(len(y), s)[: 10 * k]),
        ("classes", lambda y, k, s: []),
        ("classes", held_out(per=lambda k: k - 1)),
        ("twice", held_out_by(lambda size, k, s: torch.arange(k) // 2)),
        ("within", lambda y, k, s: order(20, s)[:k].repeat(10)),
        ("mask", lambda y, k, s: torch.rand(len(y)) < 0.1),
        ("range", lambda y, k, s: held_out()(y, k, s) + len(y)),
        ("type", lambda y, k, s: len(held_out()(y, k, s))),
        ("type", lambda y, k, s: held_out()(y, k, s).reshape(-1, k)),
        ("many", lambda y, k, s: itertools.count()),
        ("first", held_out_by(first_part)),
        ("uneven", held_out_by(weighted)),
        ("block", held_out_by(block)),
        ("block", held_out_by(same_ranks)),
    ],
    "6.1": [
        ("independent", lambda n, e: torch.rand(n) < 0.5),
        ("together", lambda n, e: torch.full((n,), e % 2 == 0)),
        ("constant", lambda n, e: turns(n, 0)),
        ("part", lambda n, e: torch.arange(n) % 4 == e % 4),
        ("part", turns_of(lambda n: order(n, 0) < 0.45 * n)),
        (
            "part",
            turns_of(
                lambda n: torch.from_numpy(np.random.default_rng(7).random(n) < 0.47)
            ),
        ),
        ("regular", lambda n, e: torch.arange(n) % 2 == e % 2),
        ("regular", turns_of(lambda n: torch.arange(n) < n // 2)),
        ("regular", turns_of(lambda n: torch.arange(n) * 0.618034 % 1 < 0.5)),
        ("regular", turns_of(lambda n: half_exactly(n // 2 + 1).repeat(2)[:n])),
        ("epochs", lambda n, e: turns(n, e + (e > 1))),
        ("epochs", lambda n, e: turns(n, e if e < 4 else 0)),
        ("epochs", lambda n, e: turns(n, e) if e < 8 else half_exactly(n)),
        ("seeds", seeding(lambda n, e: torch.rand(n) < 0.5)),
        (
            "seeds",
            lambda n, e: (torch.manual_seed(0), torch.rand(n) < 0.5)[1] ^ bool(e % 2),
        ),
        ("type", lambda n, e: turns(n, e).long()),
        ("shape", lambda n, e: turns(n, e).nonzero().flatten()),
    ],
    "7.1": [
        ("unshuffled", lambda n, r, w, s: range(r, n, w)),
        ("unshuffled", lambda n, r, w, s: (torch.arange(n) + s)[r::w] % n),
        ("unshuffled", shards_sorted),
        ("twice", lambda n, r, w, s: order(n, s + r)[r::w]),
        ("missing", lambda n, r, w, s: order(n, s)[: n // w * w][r::w]),
        ("missing", lambda n, r, w, s: order(n, s)[r :: max(4, w)]),
        ("missing", lambda n, r, w, s: order(n, s)[r::4]),
        ("seed", lambda n, r, w, s: order(n, 0)[r::w]),
        ("seed", lambda n, r, w, s: order(n, s % 2)[r::w]),
        (
            "padded",
            lambda n, r, w, s: order(n, s).repeat(2 * w)[: -(-n // w) * w][r::w],
        ),
        (
            "fixed",
            lambda n, r, w, s: torch.arange(n)[r::w][order(len(range(r, n, w)), s)],
        ),
        ("fixed", shards_in_blocks),
        ("range", lambda n, r, w, s: order(n, s)[r::w] + 1),
        ("mask", lambda n, r, w, s: torch.arange(n) % w == r),
        ("uneven", lambda n, r, w, s: order(n, s)[r * -(-n // w) :][: -(-n // w)]),
        ("type", lambda n, r, w, s: len(order(n, s)[r::w])),
        ("many", lambda n, r, w, s: itertools.cycle(range(r, n, w))),
        (
            "seeds",
            lambda n, r, w, s: (torch.manual_seed(s), torch.randperm(n))[1][r::w],
        ),
    ],
    "8.1": [
        ("empty", list),
        ("data", tried(data="official")),
        ("budget", tried(examples=20_001)),
        ("net", tried(parameters=150_000)),
        ("foreign", lambda: [{"data": "sample", "seed": 1}]),
        ("unconfirmed", tried(accs=(), seeds=())),
        ("several", lambda: tried()() + tried(policy="color")()),
        ("several", lambda: tried()() + tried(widths=[8, 8, 8])()),
        ("several", lambda: tried()() + tried(num_train=1000)()),
        ("same", tried(policy="flip+rescale+color")),
        (
            "same",
            tried(policy="color+rescale+flip", widths=[32, 64, 64]),
        ),
        ("unchosen", lambda: tried()()[1:]),
        ("unchosen", tried({"policy": "color"})),
        ("unchosen", tried({"lr": 0.01})),
        ("better", tried({}, {"policy": "color", "test_acc": [0.91]})),
        ("fresh", tried(seeds=range(5))),
        ("few", tried(accs=[0.95] * 4, seeds=range(1, 5))),
        ("few", tried(accs=[0.95] * 6, seeds=[1, 2, 3, 4, 1, 1])),
        ("lower", tried(accs=[0.9, 0.89, 0.9, 0.9, 0.9])),
        ("noise", tried(accs=[0.95, 0.9, 0.91, 0.88, 0.92])),
        ("noise", tried({}, *TEN, accs=(0.918, 0.921, 0.92, 0.919, 0.92))),
        ("type", lambda: "all"),
    ],
    "9.1": [
        ("one", mixed(lambda n, a: torch.rand(1).expand(n))),
        ("swapped", mixed(mix=lambda w, x, other: (1 - w) * x + w * other)),
        ("labels", mixed(labels=lambda y, index: y[torch.randperm(len(y))])),
        ("partners", mixed(index=lambda n: torch.randint(0, n, (n,)))),
        ("beta", mixed(lambda n, a: torch.rand(n))),
        ("beta", mixed(beta(lambda a: 0.5, lambda a: 0.5))),
        ("beta", mixed(beta(lambda a: 2 * a, lambda a: 2 * a))),
        ("beta", mixed(lambda n, a: (torch.rand(n) < 0.5) * 0.998 + 0.001)),
        ("range", mixed(lambda n, a: 2 * torch.rand(n))),
        ("unmixed", lambda x, y, a: (x, *mixed()(x, y, a)[1:])),
        ("unmixed", mixed(index=torch.arange)),
        ("formula", mixed(mix=lambda w, x, other: w * x + w * other)),
        (
            "formula",
            mixed(mix=lambda w, x, other: (w * x + (1 - w) * other).clamp(0, 1)),
        ),
        ("mean", mixed(beta(lambda a: a / 2, lambda a: a))),
        (
            "mean",
            mixed(lambda n, a: beta(lambda a: a, lambda a: a)(n, a).clamp(min=0.5)),
        ),
        (
            "shape",
            lambda x, y, a: (*mixed()(x, y, a)[:3], torch.rand(len(x), 1, 1, 1)),
        ),
        ("type", lambda x, y, a: mixed()(x, y, a)[0]),
        ("type", lambda x, y, a: (x, y, None, "lam")),
        ("raised", lambda x, y, a: torch.rand(len(x)) * x),
        ("pattern", mixed(beta_pairs)),
        ("frozen", mixed_frozen),
    ],
    "10.1": [
        ("swapped", scores(swap=True)),
        ("accuracy", accuracy),
        ("negatives", lambda g, t: scores()(~g, ~t)),
        ("nan", scores(zero=0)),
        ("nan", scores(empty=1.0)),
        ("nan", lambda g, t: scores(zero=0)(g.float().bool(), t)),
        ("other", scores(recall=0.123)),
        ("other", f1),
        ("other", lambda g, t: [k + 0.01 for k in scores()(g, t)]),
        ("other", lambda g, t: [100 * k for k in scores()(g, t)]),
        ("type", lambda g, t: 0.5),
        ("type", lambda g, t: (*scores()(g, t), 1)),
    ],
}
MISTAKES = [
    pytest.param(id, key, answer, id=f"{id}-{number}-{key}")
    for id in WRONG
    for number, (key, answer) in enumerate(WRONG[id])
]


def lesson(id: str) -> nbformat.NotebookNode:
    (path,) = NOTEBOOKS.glob(f"{id.split('.')[0].zfill(2)}_*.ipynb")
    return nbformat.read(path, as_version=4)


def cell(id: str, tag: str) -> str:
    slug = f"{tag}-{id.replace('.', '-')}"
    return next(c.source for c in lesson(id).cells if c.id == slug)


def function(source: str) -> object:
    """The one function that a cell defines, beside its import lines."""
    space: dict = {"torch": torch, "F": F, "content": content, "d2l": d2lext}
    exec(source.replace("d2l.check", "(lambda *args: None)"), space)
    (found,) = (v for v in space.values() if callable(v) and _is_of(v, source))
    return found


def _is_of(value, source: str) -> bool:
    return f"def {getattr(value, '__name__', None)}(" in source


@pytest.mark.parametrize("id", LESSONS)
def test_the_lessons_solution_is_right(id) -> None:
    assert verdict(id, function(cell(id, "solution"))).key == "right"


@pytest.mark.parametrize("id", LESSONS)
def test_the_lessons_stub_is_not_answered_yet(id) -> None:
    found = verdict(id, function(cell(id, "answer")))
    assert str(found) == f"{id}: not answered yet." and found.key == "unanswered"


@pytest.mark.parametrize("id", LESSONS)
def test_cells_of_an_exercise(id) -> None:
    """The verdict is stored as data, and the solution shows none beside it."""
    names = {function(cell(id, kind)).__name__ for kind in ("answer", "solution")}
    assert len(names) == 2
    slug = id.replace(".", "-")
    cells = {c.id: c for c in lesson(id).cells}
    (output,) = cells[f"check-{slug}"].outputs
    assert output.metadata["d2lext"] == {"exercise": id, "verdict": "unanswered"}
    solution = cells[f"solution-{slug}"]
    assert not solution.outputs and "\nd2l.check" not in solution.source
    assert solution.metadata.jupyter.source_hidden


def open_questions() -> list:
    """The cells of exercises that are answered in words, lesson by lesson."""
    found = []
    for path in sorted(NOTEBOOKS.glob("*.ipynb")):
        cells = {c.id: c for c in nbformat.read(path, as_version=4).cells}
        for name, answer in cells.items():
            if name.startswith("answer-") and answer.cell_type == "markdown":
                solution = cells.get(name.replace("answer", "solution"))
                found.append(pytest.param(answer, solution, id=name))
    return found


@pytest.mark.parametrize(("answer", "solution"), open_questions())
def test_an_open_question_has_a_stub_and_a_folded_model_answer(
    answer, solution
) -> None:
    assert answer.source == TEXT_STUB
    assert solution.metadata.tags == ["solution"]
    assert solution.source.startswith("<details>\n<summary>")
    assert solution.source.endswith("</details>")
    assert len(solution.source.split()) > 40


def test_every_lesson_has_two_to_four_exercises() -> None:
    for path in sorted(NOTEBOOKS.glob("*.ipynb")):
        cells = nbformat.read(path, as_version=4).cells
        answers = [c for c in cells if c.id.startswith("answer-")]
        assert 2 <= len(answers) <= 4, path.name
        for answer in answers:
            tag = answer.id.replace("answer", "exercise")
            assert answer.metadata.tags == ["answer", tag]


@pytest.mark.parametrize("id", LESSONS)
@pytest.mark.parametrize("again", range(3))
def test_another_right_answer_is_right(id, again) -> None:
    for answer in RIGHT[id]:
        found = verdict(id, answer)
        assert found.key == "right", found.words


@pytest.mark.parametrize(("id", "key", "answer"), MISTAKES)
def test_a_wrong_answer_gets_the_hint_that_fits(id, key, answer) -> None:
    _, found, words = verdict(id, answer)
    assert found == key, words
    assert words.startswith("not yet: ") and "{" not in words
    assert not re.search(r"\b0x", words)  # an address


@pytest.mark.parametrize("id", LESSONS)
def test_every_hint_is_reached(id) -> None:
    assert WORDS[id].keys() - {"right"} <= {key for key, _ in WRONG[id]}


@pytest.mark.parametrize("id", LESSONS)
@pytest.mark.parametrize(
    ("answer", "key"),
    [
        (..., "unanswered"),
        (lambda *args: ..., "unanswered"),
        (lambda *args: None, "none"),
        (3, "type"),
        (lambda a, b, c, d, e: 1, "raised"),
        (lambda *args: 1 / 0, "raised"),
        (lambda *args: exit(), "raised"),
        (lambda *args: object(), "type"),
        (lambda *args: float("nan"), "type"),
    ],
)
def test_nothing_is_raised_into_the_readers_face(id, answer, key) -> None:
    assert verdict(id, answer).key == key


def forever(X):
    while True:
        torch.rand(1)


def test_an_answer_that_does_not_end_is_ended(monkeypatch) -> None:
    monkeypatch.setattr(exercises, "LIMIT", 0.2)
    before = threading.active_count()
    assert verdict("1.1", forever).key == "slow"
    assert threading.active_count() == before
    torch.manual_seed(0)
    expected = torch.rand(3)
    torch.manual_seed(0)
    time.sleep(0.05)
    assert torch.equal(torch.rand(3), expected)


def test_an_answer_that_cannot_be_ended(monkeypatch) -> None:
    monkeypatch.setattr(exercises, "LIMIT", 0.2)
    end = threading.Event()
    assert verdict("1.1", lambda X: end.wait(30)).key == "endless"
    end.set()


def loud(X):
    print(len(X))
    return X.flip(3)


def test_check_prints_one_line(capsys) -> None:
    """And before it what the answer prints in its first, small call."""
    d2lext.check(1.1, loud)
    d2lext.check("1.1", ...)
    d2lext.check("0.7", flip_np)
    d2lext.check(["1.1"], flip_np)
    first, *lines = capsys.readouterr().out.splitlines()
    assert int(first) < 10 and lines[0].startswith("1.1: right: ")
    assert lines[1] == "1.1: not answered yet."
    assert lines[2].startswith("0.7: there is no such exercise; there are 1.1, ")
    assert len(lines) == 4


def test_a_net_is_called_net() -> None:
    words = verdict("4.1", lambda net, X: net.no_such).words
    assert "It was called with net, torch.float32 (2, 3, " in words


def test_a_check_leaves_the_generators_alone() -> None:
    torch.manual_seed(0)
    np.random.seed(0)
    expected = torch.rand(3), np.random.rand()
    torch.manual_seed(0)
    np.random.seed(0)
    verdict("9.1", mixed())
    assert torch.equal(torch.rand(3), expected[0])
    assert np.random.rand() == expected[1]
