"""Each check judges right answers of several kinds, and wrong ones.

The answers are in answers.txt; this module defines the functions that they use.
"""

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
from torch.distributions import Beta
from torch.nn import functional as F
from torchvision.transforms import RandomCrop

import d2lext
from d2lext.course import exercises
from d2lext.course.answers import TEXT_STUBS
from d2lext.course.exercises import LESSONS, verdict
from d2lext.runs import content

NOTEBOOKS = Path(__file__).resolve().parent.parent / "notebooks"
USED = (itertools, time, RandomCrop)  # in answers.txt


@pytest.fixture(autouse=True)
def patience(monkeypatch) -> None:
    """Allow for a busy machine."""
    monkeypatch.setattr(exercises, "LIMIT", 120)


def order(n, seed):
    return torch.randperm(n, generator=torch.Generator().manual_seed(seed))


def cropped(X, size, rows, columns):
    """Crops (n, 3, size, size) that start at rows and columns, (n,) or (n, 3)."""
    windows = X.unfold(2, size, 1).unfold(3, size, 1)
    rows, columns = (k.reshape(len(X), -1) for k in (rows, columns))
    return windows[torch.arange(len(X))[:, None], torch.arange(3), rows, columns]


def draw(X, size, axis, shape=None, low=0, high=1, **how):
    return torch.randint(low, X.shape[axis] - size + high, shape or (len(X),), **how)


def crop(X, size, start):
    """A crop whose row and column `start` draws, given X, size and the axis."""
    return cropped(X, size, start(X, size, 2), start(X, size, 3))


def uniform(X, amount, *shape, **how):
    return 1 + amount * (2 * torch.rand(shape or (len(X), 1, 1, 1), **how) - 1)


def p(logits):
    return logits.softmax(1)


def held_out(y, per_class, order):
    """The first `per_class` images of each class in an order."""
    return torch.cat([order[y[order] == k][:per_class] for k in y.unique()])


def held_out_by(y, pick):
    """The images of each class at the positions pick(size)."""
    classes = [(y == k).nonzero().flatten() for k in y.unique()]
    return torch.cat([c[pick(len(c))] for c in classes])


def coins(n, p=0.5):
    return torch.from_numpy(np.random.default_rng(7).random(n) < p)


BEST = next(r for r in content("sample_policies.json")["runs"] if r["policy"] == "all")
TEN = [{"lr": 0.001 * (k + 1), "test_acc": [0.5]} for k in range(10)]


def tried(*held, accs=(0.98, 0.97, 0.96, 0.97, 0.98), seeds=range(10, 15), **changed):
    """Runs on held-out images, one for each of `held`, and then a confirmation."""
    run = BEST | {"policy": "flip+rescale"} | changed
    first = run | {"num_val": 1000, "seed": 0, "test_acc": [0.9]}
    return [first | more for more in held or ({},)] + [
        run | {"num_val": 0, "seed": seed, "test_acc": [0.1, acc]}
        for seed, acc in zip(seeds, accs, strict=True)
    ]


def beta(x, a, b=None):
    return Beta(a, b or a).sample((len(x),))


def mixed(x, y, lam, index=None):
    index = torch.randperm(len(x)) if index is None else index
    w = lam.reshape(-1, 1, 1, 1)
    return w * x + (1 - w) * x[index], y, y[index], lam


def scores(guess, truth, zero=1, empty=0.0):
    hits, sums = float((guess & truth).sum()), (truth.sum(), guess.sum())
    return [hits / max(zero, k.item()) if k or not zero else empty for k in sums]


def answers() -> list:
    """The exercise, key and function of each line in answers.txt."""
    found = []
    for part in Path(__file__).with_name("answers.txt").read_text().split("\n\n")[1:]:
        head, *lines = part.splitlines()
        id, _, args = head.partition(" ")
        for line in lines:
            key, expression = line.split(maxsplit=1)
            function = eval(f"lambda {args}: {expression}", globals())
            name = f"{id} {key}: {expression}"
            found.append(pytest.param(id, key, function, id=name.replace("::", ":")))
    return found


ANSWERS = answers()


def function(source: str) -> object:
    """The only function that a cell defines."""
    space: dict = {"torch": torch, "F": F, "content": content}
    exec(source, space)
    return space.popitem()[1]


@pytest.mark.parametrize("path", [*NOTEBOOKS.glob("*.ipynb")], ids=lambda p: p.stem)
def test_the_exercises_of_a_lesson(path) -> None:
    """A stub is unanswered, and a model answer right or a text; it is folded."""
    cells = {c.id: c for c in nbformat.read(path, as_version=4).cells}
    found = {k.removeprefix("answer-"): c for k, c in cells.items() if "answer-" in k}
    assert 2 <= len(found) <= 4
    code = [slug for slug in found if found[slug].cell_type == "code"]
    assert [LESSONS[slug.replace("-", ".")] for slug in code] == [path.stem[3:]]
    for slug, answer in found.items():
        solution = cells[f"solution-{slug}"]
        assert answer.metadata.tags == ["answer", f"exercise-{slug}"]
        assert "solution" in solution.metadata.tags
        if answer.cell_type == "markdown":
            assert answer.source == TEXT_STUBS[0]
            assert solution.source.startswith("<details>\n<summary>")
            assert solution.source.endswith("</details>")
            assert len(solution.source.split()) > 40
            continue
        id = slug.replace("-", ".")
        stub, right = function(answer.source), function(solution.source)
        assert str(verdict(id, stub)) == f"{id}: not answered yet."
        assert verdict(id, right).key == "right"
        assert stub.__name__ != right.__name__
        (output,) = cells[f"check-{slug}"].outputs
        assert output.metadata["d2lext"] == {"exercise": id, "verdict": "unanswered"}
        assert not solution.outputs and "\nd2l.check" not in solution.source
        assert solution.metadata.jupyter.source_hidden


@pytest.mark.parametrize(("id", "key", "answer"), ANSWERS)
def test_an_answer_gets_its_verdict(id, key, answer) -> None:
    for _ in range(3 if key == "right" else 1):
        _, found, words = verdict(id, answer)
        assert found == key, words
    assert words.startswith("right: " if key == "right" else "not yet: ")
    assert not re.search(r"{|\b0x", words)  # a value left out, or an address


def test_every_hint_is_reached() -> None:
    elsewhere = {"unanswered", "function", "slow"}  # below
    assert exercises.ANY.keys() - elsewhere <= {p.values[1] for p in ANSWERS}
    for id, name in LESSONS.items():
        hints = importlib.import_module(f"{exercises.__name__}.{name}").WORDS
        assert hints.keys() <= {p.values[1] for p in ANSWERS if p.values[0] == id}


@pytest.mark.parametrize("id", LESSONS)
@pytest.mark.parametrize(
    ("answer", "key"),
    [
        (..., "unanswered"),
        (lambda *args: ..., "unanswered"),
        (lambda *args: None, "none"),
        (3, "function"),
        (lambda *args: 1 / 0, "raised"),
        (lambda *args: exit(), "raised"),
        (lambda *args: object(), "type"),
        (lambda *args: float("nan"), "type"),
    ],
)
def test_check_raises_nothing(id, answer, key) -> None:
    assert verdict(id, answer).key == key


def forever(X):
    while True:
        torch.rand(1), np.random.rand()


def test_an_endless_answer_is_stopped(monkeypatch) -> None:
    """It draws nothing more, and the generators are where they were."""
    monkeypatch.setattr(exercises, "LIMIT", 0.2)
    before = threading.active_count()
    torch.manual_seed(0), np.random.seed(0)
    expected = torch.rand(3).tolist(), np.random.rand()
    torch.manual_seed(0), np.random.seed(0)
    assert verdict("1.1", forever).key == "slow"
    assert threading.active_count() == before
    time.sleep(0.05)
    assert (torch.rand(3).tolist(), np.random.rand()) == expected


def test_an_answer_that_cannot_be_stopped(monkeypatch) -> None:
    monkeypatch.setattr(exercises, "LIMIT", 0.2)
    end = threading.Event()
    assert verdict("1.1", lambda X: end.wait(30)).key == "slow"
    end.set()


def loud(X):
    print(len(X))
    return X.flip(3)


def test_check_prints_one_line(capsys) -> None:
    """The output of the answer's first, small call stands before it."""
    d2lext.check(1.1, loud)
    d2lext.check("4.1", lambda net, X: net.no_such)
    d2lext.check(["1.1"], loud)
    first, right, raised, unknown = capsys.readouterr().out.splitlines()
    assert int(first) < 10 and right.startswith("1.1: right: ")
    assert "It was called with net, torch.float32 (2, 3, " in raised
    assert "no exercise has this number. Choose from 1.1, " in unknown
