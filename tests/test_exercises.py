"""Each check against the lesson's solution, another right answer, and wrong ones."""

import json
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
from d2lext.course.exercises import CHECKS, WORDS, verdict

NOTEBOOKS = Path(__file__).resolve().parent.parent / "notebooks"


@pytest.fixture(autouse=True)
def patience(monkeypatch) -> None:
    """A busy machine may take its time."""
    monkeypatch.setattr(exercises, "LIMIT", 120)


def flip_np(X):
    return torch.from_numpy(np.flip(X.numpy(), 3).copy())


def written(X):
    X[:] = X.flip(3)
    return X


def crop(rows, columns):
    """A crop from functions of X and size that draw where it begins."""

    def answer(X, size):
        begins = zip(rows(X, size), columns(X, size), strict=True)
        return torch.stack(
            [
                x[:, i : i + size, j : j + size]
                for x, (i, j) in zip(X, begins, strict=True)
            ]
        )

    return answer


def draws(X, size, axis, low=0, high=1):
    return torch.randint(low, X.shape[axis] - size + high, (len(X),)).tolist()


def crop_one_by_one(X, size):
    from torchvision.transforms import RandomCrop

    return torch.stack([RandomCrop(size)(x) for x in X])


def crop_frozen(X, size):
    torch.manual_seed(0)
    return crop_one_by_one(X, size)


def crop_diagonal(X, size):
    i = draws(X, size, 2)
    return crop(lambda X, size: i, lambda X, size: i)(X, size)


def bright(draw, clip=True, add=False):
    def answer(X, amount):
        factor = draw(X, amount)
        Y = X + factor - 1 if add else X * factor
        return Y.clamp(0, 1) if clip else Y

    return answer


def own(X, amount):
    return 1 + amount * (2 * torch.rand(len(X), 1, 1, 1) - 1)


def bright_frozen(X, amount):
    generator = torch.Generator().manual_seed(1)
    factor = torch.empty(len(X), 1, 1, 1)
    factor.uniform_(1 - amount, 1 + amount, generator=generator)
    return (X * factor).clamp(0, 1)


def views(*how, join=lambda p: sum(p) / len(p), out=lambda X: X.softmax(1)):
    return lambda net, X: join([out(net(view(X))) for view in how])


def plain(X):
    return X


def mirrored(X):
    return X.flip(3)


def sum_then_softmax(outputs):
    return sum(outputs).softmax(1)


def stacked_views(net, X):
    return net(torch.cat([X, X.flip(-1)])).softmax(1).reshape(2, len(X), -1).mean(0)


def turns(n, epoch):
    start = np.random.default_rng(7).random(n) < 0.5
    return torch.from_numpy(start ^ bool(epoch % 2))


def shards(n, rank, world_size, seed):
    return np.array_split(np.random.default_rng(seed).permutation(n), world_size)[rank]


def order(n, seed):
    return torch.randperm(n, generator=torch.Generator().manual_seed(seed))


def held_out(draw=torch.randperm, per=lambda k: k):
    """Of each class the first ones of an order, drawn with the seed."""

    def answer(y, per_class, seed):
        torch.manual_seed(seed)
        order = draw(len(y))
        return torch.cat([order[y[order] == k][: per(per_class)] for k in range(10)])

    return answer


def held_out_np(y, per_class, seed):
    random = np.random.default_rng(seed)
    classes = [(y == k).nonzero().flatten().numpy() for k in range(10)]
    return [i for c in classes for i in random.choice(c, per_class, replace=False)]


def held_out_with_replacement(y, per_class, seed):
    random = np.random.default_rng(seed)
    classes = [(y == k).nonzero().flatten().numpy() for k in range(10)]
    return [i for c in classes for i in random.choice(c, per_class)]


def unstable(y, per_class, seed):
    torch.manual_seed(time.time_ns() % 2**32)
    order = torch.randperm(len(y))
    return torch.cat([order[y[order] == k][:per_class] for k in range(10)])


BEST = json.loads(
    (NOTEBOOKS.parent / "data/results/sample_policies.json").read_text(encoding="utf-8")
)["runs"][-1]


def runs(accs=(0.95, 0.94, 0.95), seeds=range(3), **changed):
    changed = {"policy": "flip+rescale"} | changed
    return lambda: [
        BEST | {"seed": seed, "test_acc": [0.1, acc]} | changed
        for seed, acc in zip(seeds, accs, strict=True)
    ]


def several():
    return runs()() + runs(policy="color")()


def scores(recall=True, precision=True, zero=1, swap=False):
    def answer(guess, truth):
        hits = float((guess & truth).sum())
        numbers = (
            hits / max(zero, truth.sum().item()) if recall is True else recall,
            hits / max(zero, guess.sum().item()) if precision is True else precision,
        )
        return numbers[::-1] if swap else numbers

    return answer


def accuracy(guess, truth):
    return scores()(guess, truth)[0], (guess == truth).float().mean()


def mixed(
    draw=lambda n, alpha: torch.distributions.Beta(alpha, alpha).sample((n,)),
    swap=False,
    second=None,
):
    def answer(x, y, alpha):
        lam, index = draw(len(x), alpha), torch.randperm(len(x))
        w = lam.reshape(-1, 1, 1, 1)
        w = 1 - w if swap else w
        labels = y[torch.randperm(len(y))] if second == "own" else y[index]
        if second == "drawn":
            index = torch.randint(0, len(x), (len(x),))
            labels = y[index]
        return w * x + (1 - w) * x[index], y, labels, lam

    return answer


def mixed_up(x, y, alpha):
    """The partner gets lambda too, not 1 - lambda."""
    _, y_a, y_b, lam = mixed()(x, y, alpha)
    index = y.argsort()[y_b]
    w = lam.reshape(-1, 1, 1, 1)
    return w * x + w * x[index], y_a, y_b, lam


RIGHT = {
    "1.1": [flip_np, lambda X: X[..., torch.arange(X.shape[-1] - 1, -1, -1)]],
    "2.1": [crop_one_by_one],
    "3.1": [
        lambda X, amount: torch.minimum(X * own(X, amount), torch.ones(())),
        bright(own),
    ],
    "4.1": [stacked_views, views(plain, mirrored)],
    "5.1": [held_out_np, held_out()],
    "6.1": [turns],
    "7.1": [shards],
    "8.1": [runs(), runs(policy="all", mixup_alpha=0.2)],
    "10.1": [scores(), lambda g, t: torch.tensor(scores()(g, t)).tolist()],
    "9.1": [mixed(), mixed(lambda n, a: torch.from_numpy(np.random.beta(a, a, n)))],
}
WRONG = {
    "1.1": {
        "same": lambda X: X.clone(),
        "upside": lambda X: X.flip(2),
        "channels": lambda X: X.flip(1),
        "order": lambda X: X.flip(0),
        "written": written,
        "shape": lambda X: X[0].flip(2),
        "type": lambda X: X.flip(3).double(),
        "none": lambda X: None,
        "raised": lambda X: X[:, :, :, ::-1],
        "other": lambda X: X.transpose(0, 0) * 0,
    },
    "2.1": {
        "together": crop(lambda X, size: [1] * len(X), lambda X, size: [2] * len(X)),
        "first": crop(
            lambda X, size: draws(X, size, 2, 1), lambda X, size: draws(X, size, 3, 1)
        ),
        "last": crop(
            lambda X, size: draws(X, size, 2, 0, 0),
            lambda X, size: draws(X, size, 3, 0, 0),
        ),
        "diagonal": lambda X, size: crop_diagonal(X[..., :7], size),
        "frozen": crop_frozen,
        "mixed": lambda X, size: crop_one_by_one(X.flip(0), size),
        "shape": lambda X, size: crop_one_by_one(X, size - 1),
        "uneven": crop(
            lambda X, size: [min(i, 2 * (i % 2) + 1) for i in draws(X, size, 2)],
            lambda X, size: draws(X, size, 3),
        ),
    },
    "3.1": {
        "unclipped": bright(own, clip=False),
        "added": bright(own, add=True),
        "together": bright(lambda X, amount: own(X[:1], amount)),
        "pixels": bright(lambda X, amount: 0.6 + 0.8 * torch.rand(X.shape)),
        "range": bright(lambda X, amount: 2 * torch.rand(len(X), 1, 1, 1)),
        "centre": bright(lambda X, amount: 1 - amount * torch.rand(len(X), 1, 1, 1)),
        "channels": bright(lambda X, amount: 0.6 + 0.8 * torch.rand(len(X), 3, 1, 1)),
        "uneven": bright(
            lambda X, amount: (
                1 + amount * (2 * (torch.randperm(len(X)) % 2) - 1).reshape(-1, 1, 1, 1)
            )
        ),
        "frozen": bright_frozen,
    },
    "4.1": {
        "plain": views(plain),
        "mirrored": views(mirrored),
        "logits": views(plain, mirrored, out=lambda X: X),
        "sum": views(plain, mirrored, join=sum),
        "labels": lambda net, X: views(plain, mirrored)(net, X).argmax(1),
        "upside": views(plain, lambda X: X.flip(2)),
        "drawn": views(plain, lambda X: X.flip(3) if torch.rand(()) < 0.5 else X),
    },
    "5.1": {
        "first": held_out(torch.arange),
        "seed": lambda y, per_class, seed: held_out()(y, per_class, 0),
        "unstable": unstable,
        "classes": lambda y, per_class, seed: order(len(y), seed)[: 10 * per_class],
        "twice": lambda y, per_class, seed: held_out()(y, 1, seed).repeat(per_class),
        "within": lambda y, per_class, seed: order(40, seed)[:per_class].repeat(10),
        "mask": lambda y, per_class, seed: torch.rand(len(y)) < 0.1,
        "range": lambda y, per_class, seed: held_out()(y, per_class, seed) + len(y),
        "type": lambda y, per_class, seed: len(held_out()(y, per_class, seed)),
    },
    "6.1": {
        "independent": lambda n, epoch: torch.rand(n) < 0.5,
        "together": lambda n, epoch: torch.full((n,), epoch % 2 == 0),
        "constant": lambda n, epoch: turns(n, 0),
        "part": lambda n, epoch: torch.arange(n) % 4 == epoch % 4,
        "regular": lambda n, epoch: torch.arange(n) % 2 == epoch % 2,
        "epochs": lambda n, epoch: (
            turns(n, epoch) if epoch < 2 else turns(n, epoch + 1)
        ),
        "type": lambda n, epoch: turns(n, epoch).long(),
    },
    "7.1": {
        "unshuffled": lambda n, rank, size, seed: range(rank, n, size),
        "twice": lambda n, rank, size, seed: order(n, seed + rank)[rank::size],
        "missing": lambda n, rank, size, seed: order(n, seed)[: n // size * size][
            rank::size
        ],
        "seed": lambda n, rank, size, seed: order(n, 0)[rank::size],
        "padded": lambda n, rank, size, seed: order(n, seed).repeat(2)[
            : -(-n // size) * size
        ][rank::size],
        "fixed": lambda n, rank, size, seed: torch.arange(n)[rank::size][
            order(len(range(rank, n, size)), seed)
        ],
        "range": lambda n, rank, size, seed: order(n, seed)[rank::size] + 1,
        "mask": lambda n, rank, size, seed: torch.arange(n) % size == rank,
        "uneven": lambda n, rank, size, seed: order(n, seed).split(30)[rank],
        "type": lambda n, rank, size, seed: len(order(n, seed)[rank::size]),
    },
    "8.1": {
        "empty": list,
        "data": runs(data="CIFAR-10"),
        "budget": runs(examples=20_001),
        "net": runs(parameters=150_000),
        "several": several,
        "few": runs(seeds=(0, 0, 1)),
        "same": runs(policy="flip+rescale+color"),
        "lower": runs(accs=(0.9, 0.9, 0.9)),
        "noise": runs(accs=(0.95, 0.9, 0.88)),
        "type": lambda: "all",
        "raised": lambda: [{}],
    },
    "10.1": {
        "swapped": scores(swap=True),
        "accuracy": accuracy,
        "negatives": lambda guess, truth: scores()(~guess, ~truth),
        "nan": scores(zero=0),
        "other": scores(recall=0.123),
        "type": lambda guess, truth: 0.5,
    },
    "9.1": {
        "one": mixed(lambda n, alpha: torch.rand(1).expand(n)),
        "swapped": mixed(swap=True),
        "labels": mixed(second="own"),
        "partners": mixed(second="drawn"),
        "beta": mixed(lambda n, alpha: torch.rand(n)),
        "range": mixed(lambda n, alpha: 2 * torch.rand(n)),
        "unmixed": lambda x, y, alpha: (x, *mixed()(x, y, alpha)[1:]),
        "formula": mixed_up,
        "mean": mixed(lambda n, a: torch.distributions.Beta(a / 2, a).sample((n,))),
        "shape": lambda x, y, alpha: (
            *mixed()(x, y, alpha)[:3],
            torch.rand(len(x), 1, 1, 1),
        ),
        "type": lambda x, y, alpha: mixed()(x, y, alpha)[0],
    },
}


def lesson(id: str) -> nbformat.NotebookNode:
    (path,) = NOTEBOOKS.glob(f"{id.split('.')[0].zfill(2)}_*.ipynb")
    return nbformat.read(path, as_version=4)


def cell(id: str, tag: str) -> str:
    slug = f"{tag}-{id.replace('.', '-')}"
    return next(c.source for c in lesson(id).cells if c.id == slug)


def function(source: str) -> object:
    """The one function that a cell defines, beside its import lines."""
    space: dict = {"torch": torch, "F": F, "np": np, "json": json, "d2l": d2lext}
    exec(source.replace("d2l.check", "(lambda *args: None)"), space)
    (found,) = (v for v in space.values() if callable(v) and _is_of(v, source))
    return found


def _is_of(value, source: str) -> bool:
    return f"def {getattr(value, '__name__', None)}(" in source


@pytest.mark.parametrize("id", CHECKS)
def test_the_lessons_solution_is_right(id) -> None:
    assert verdict(id, function(cell(id, "solution")))[0] == "right"


@pytest.mark.parametrize("id", CHECKS)
def test_the_lessons_stub_is_not_answered_yet(id) -> None:
    assert verdict(id, function(cell(id, "answer"))) == (
        "unanswered",
        "not answered yet.",
    )


@pytest.mark.parametrize("id", CHECKS)
def test_a_solution_has_a_name_of_its_own(id) -> None:
    names = {function(cell(id, kind)).__name__ for kind in ("answer", "solution")}
    assert len(names) == 2


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


@pytest.mark.parametrize("id", CHECKS)
@pytest.mark.parametrize("again", range(5))
def test_another_right_answer_is_right(id, again) -> None:
    for answer in RIGHT[id]:
        assert verdict(id, answer)[0] == "right"


# Other mistakes that the same hint fits.
MORE = [
    ("2.1", "together", crop(lambda X, s: draws(X, s, 2), lambda X, s: [1] * len(X))),
    ("4.1", "logits", views(plain, mirrored, join=sum_then_softmax, out=plain)),
    ("5.1", "classes", lambda y, per_class, seed: []),
    ("5.1", "type", lambda y, per_class, seed: held_out()(y, 7, seed).reshape(10, 7)),
    ("5.1", "twice", held_out_with_replacement),
    ("6.1", "regular", lambda n, epoch: (torch.arange(n) < n // 2) ^ (epoch % 2 == 1)),
    (
        "7.1",
        "unshuffled",
        lambda n, r, size, seed: (torch.arange(n) + seed)[r::size] % n,
    ),
    ("9.1", "unmixed", lambda x, y, alpha: (x, y, y, torch.rand(len(x)))),
    ("9.1", "raised", lambda x, y, alpha: torch.rand(len(x)) * x),
    ("9.1", "type", lambda x, y, alpha: (x, y, None, "lam")),
]
MISTAKES = [(id, key, answer) for id in WRONG for key, answer in WRONG[id].items()]


@pytest.mark.parametrize(("id", "key", "answer"), MISTAKES + MORE)
def test_a_wrong_answer_gets_the_hint_that_fits(id, key, answer) -> None:
    found, words = verdict(id, answer)
    assert found == key, words
    assert words.startswith("not yet: ") and "{" not in words


@pytest.mark.parametrize("id", CHECKS)
def test_every_hint_is_reached(id) -> None:
    assert len(WRONG[id]) >= 3
    assert WORDS[id].keys() - {"right"} <= WRONG[id].keys()


@pytest.mark.parametrize("id", CHECKS)
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
    assert verdict(id, answer)[0] == key


def forever(X):
    while True:
        torch.rand(1)


def test_an_answer_that_does_not_end_is_ended(monkeypatch) -> None:
    monkeypatch.setattr(exercises, "LIMIT", 0.2)
    before = threading.active_count()
    assert verdict("1.1", forever)[0] == "slow"
    assert threading.active_count() == before
    torch.manual_seed(0)
    expected = torch.rand(3)
    torch.manual_seed(0)
    time.sleep(0.05)
    assert torch.equal(torch.rand(3), expected)


def test_an_answer_that_cannot_be_ended(monkeypatch) -> None:
    monkeypatch.setattr(exercises, "LIMIT", 0.2)
    end = threading.Event()
    assert verdict("1.1", lambda X: end.wait(30))[0] == "endless"
    end.set()


def test_check_prints_one_line(capsys) -> None:
    d2lext.check("1.1", flip_np)
    d2lext.check("1.1", ...)
    d2lext.check("0.7", flip_np)
    d2lext.check(["1.1"], flip_np)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("1.1: right: ")
    assert lines[1] == "1.1: not answered yet."
    assert lines[2].startswith("0.7: there is no such exercise; there are 1.1, ")


def test_a_check_leaves_the_generators_alone() -> None:
    torch.manual_seed(0)
    np.random.seed(0)
    expected = torch.rand(3), np.random.rand()
    torch.manual_seed(0)
    np.random.seed(0)
    verdict("9.1", mixed())
    assert torch.equal(torch.rand(3), expected[0])
    assert np.random.rand() == expected[1]
