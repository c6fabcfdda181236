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
WORDS = {
    id: importlib.import_module(f"d2lext.course.exercises.{name}").WORDS
    for id, name in LESSONS.items()
}
USED = (itertools, time, RandomCrop)  # in answers.txt


@pytest.fixture(autouse=True)
def patience(monkeypatch) -> None:
    """Allow for a busy machine."""
    monkeypatch.setattr(exercises, "LIMIT", 120)


def own(seed):
    return torch.Generator().manual_seed(seed)


def order(n, seed):
    return torch.randperm(n, generator=own(seed))


def seeding(seed):
    """Seed the global generator, as no answer should."""
    return torch.manual_seed(seed)


def pairs(drawn):
    return drawn.repeat_interleave(2, 0)[: len(drawn)]


def twice(drawn):
    return drawn[: -(-len(drawn) // 2)].repeat(2)[: len(drawn)]


def opposite(drawn, total):
    """Draws whose second half complements the first to the total."""
    half = len(drawn) // 2
    return torch.cat([drawn[: len(drawn) - half], total - drawn[:half]])


def flip_np(X):
    return torch.from_numpy(np.flip(X.numpy(), 3).copy())


def flip_some(X, some):
    return torch.where(some.reshape(-1, 1, 1, 1), X.flip(3), X)


def width_for_height(X):
    return X[..., torch.arange(X.shape[2] - 1, -1, -1) % X.shape[3]]


def cropped(X, size, rows, columns):
    """Crops (n, 3, size, size) that start at rows and columns, (n,) or (n, 3)."""
    n, c, _, w = X.shape
    rows, columns = (
        torch.as_tensor(k).reshape(n, -1).expand(n, c) for k in (rows, columns)
    )
    piece = torch.arange(size)[:, None] * w + torch.arange(size)
    index = (rows * w + columns)[..., None] + piece.flatten()
    return X.flatten(2).gather(2, index).reshape(n, c, size, size)


def draw(X, size, axis, shape=None, low=0, high=1, **how):
    return torch.randint(low, X.shape[axis] - size + high, shape or (len(X),), **how)


def crop(X, size, rows, columns=None):
    """A crop whose start `rows` and `columns` draw, given X, size and the axis."""
    return cropped(X, size, rows(X, size, 2), (columns or rows)(X, size, 3))


def crop_diagonal(X, size):
    place = torch.randint(min(X.shape[2:]) - size + 1, (len(X),))
    return cropped(X, size, place, place)


def crop_in_a_chain(X, size):
    """One draw gives the column of an image and the row of the next."""
    places = torch.tensor(X.shape[2:]) - size + 1
    return cropped(X, size, *(torch.rand(len(X) + 1).unfold(0, 2, 1) * places).long().T)


def in_cycle(X, size, axis):
    return (torch.arange(len(X)) + torch.randint(9, ())) % (X.shape[axis] - size + 1)


def mirrored_places(X, size, axis):
    return opposite(draw(X, size, axis), X.shape[axis] - size)


def uniform(X, amount, *shape, **how):
    return 1 + amount * (2 * torch.rand(shape or (len(X), 1, 1, 1), **how) - 1)


def p(logits):
    return logits.softmax(1)


def stacked_views(net, X):
    net.eval()
    with torch.no_grad():
        return p(net(torch.cat([X, X.flip(-1)]))).reshape(2, len(X), -1).mean(0)


def held_out(y, per_class, order):
    """The first `per_class` images of each class in an order."""
    return torch.cat([order[y[order] == k][:per_class] for k in y.unique()])


def held_out_np(y, per_class, seed):
    rng = np.random.default_rng(seed)
    classes = [(y == k).nonzero().flatten().numpy() for k in y.unique()]
    return [i for c in classes for i in rng.choice(c, per_class, replace=False)]


def held_out_by(y, pick):
    """The images of each class at the positions pick(size)."""
    classes = [(y == k).nonzero().flatten() for k in y.unique()]
    return torch.cat([c[pick(len(c))] for c in classes])


def rising(size):
    weights = np.arange(5, size + 5)  # none so small that it never comes
    return weights / weights.sum()


def coins(n, p=0.5):
    return torch.from_numpy(np.random.default_rng(7).random(n) < p)


def half_exactly(n):
    return order(n, 5) < n // 2


def in_blocks(n, seed):
    """An order of the indices in which pairs of neighbours stay together."""
    blocks = torch.arange(n).split(2)
    return torch.cat([blocks[i] for i in order(len(blocks), seed)])


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


def mixed(
    x,
    y,
    lam,
    index=None,
    mix=lambda w, x, x_b: w * x + (1 - w) * x_b,
    labels=torch.clone,
):
    index = torch.randperm(len(x)) if index is None else index
    return mix(lam.reshape(-1, 1, 1, 1), x, x[index]), y, labels(y[index]), lam


def scores(guess, truth, zero=1, empty=0.0):
    hits, sums = float((guess & truth).sum()), (truth.sum(), guess.sum())
    return [hits / max(zero, k.item()) if k or not zero else empty for k in sums]


def f1(guess, truth):
    recall, precision = scores(guess, truth)
    return recall, 2 * recall * precision / max(1e-9, recall + precision)


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
RIGHT = [p for p in ANSWERS if p.values[1] == "right"]
WRONG = [p for p in ANSWERS if p.values[1] != "right"]


def lesson(id: str) -> nbformat.NotebookNode:
    (path,) = NOTEBOOKS.glob(f"{id.split('.')[0].zfill(2)}_*.ipynb")
    return nbformat.read(path, as_version=4)


def function(source: str) -> object:
    """The only function that a cell defines."""
    space: dict = {"torch": torch, "F": F, "content": content, "d2l": d2lext}
    exec(source.replace("d2l.check", "(lambda *args: None)"), space)
    (name,) = re.findall(r"^def (\w+)", source, re.MULTILINE)
    return space[name]


@pytest.mark.parametrize("id", LESSONS)
def test_the_cells_of_an_exercise(id) -> None:
    """The stub is unanswered, the solution right; no verdict stands beside it."""
    cells = {c.id: c for c in lesson(id).cells}
    slug = id.replace(".", "-")
    stub, solution = (cells[f"{kind}-{slug}"] for kind in ("answer", "solution"))
    found = verdict(id, function(stub.source))
    assert str(found) == f"{id}: not answered yet." and found.key == "unanswered"
    assert verdict(id, function(solution.source)).key == "right"
    assert function(stub.source).__name__ != function(solution.source).__name__
    (output,) = cells[f"check-{slug}"].outputs
    assert output.metadata["d2lext"] == {"exercise": id, "verdict": "unanswered"}
    assert not solution.outputs and "\nd2l.check" not in solution.source
    assert solution.metadata.jupyter.source_hidden


@pytest.mark.parametrize("path", [*NOTEBOOKS.glob("*.ipynb")], ids=lambda p: p.stem)
def test_a_lesson_has_two_to_four_exercises_and_folds_model_answers(path) -> None:
    cells = {c.id: c for c in nbformat.read(path, as_version=4).cells}
    names = [name for name in cells if name.startswith("answer-")]
    assert 2 <= len(names) <= 4
    for name in names:
        answer, tag = cells[name], name.replace("answer", "exercise")
        assert answer.metadata.tags == ["answer", tag]
        if answer.cell_type == "markdown":
            solution = cells[name.replace("answer", "solution")]
            assert answer.source == TEXT_STUBS[0]
            assert solution.metadata.tags == ["solution"]
            assert solution.source.startswith("<details>\n<summary>")
            assert solution.source.endswith("</details>")
            assert len(solution.source.split()) > 40


@pytest.mark.parametrize(("id", "key", "answer"), RIGHT)
def test_another_right_answer_is_right(id, key, answer) -> None:
    for _ in range(3):
        found = verdict(id, answer)
        assert found.key == "right", found.words


@pytest.mark.parametrize(("id", "key", "answer"), WRONG)
def test_a_wrong_answer_gets_its_hint(id, key, answer) -> None:
    _, found, words = verdict(id, answer)
    assert found == key, words
    assert words.startswith("not yet: ") and "{" not in words
    assert not re.search(r"\b0x", words)  # an address


def test_every_hint_is_reached() -> None:
    hints = {(id, key) for id, words in WORDS.items() for key in words}
    assert hints <= {p.values[:2] for p in ANSWERS}
    assert {id for id, key in hints} == LESSONS.keys()


@pytest.mark.parametrize("id", LESSONS)
@pytest.mark.parametrize(
    ("answer", "key"),
    [
        (..., "unanswered"),
        (lambda *args: ..., "unanswered"),
        (lambda *args: None, "none"),
        (3, "function"),
        (lambda a, b, c, d, e: 1, "raised"),
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
        torch.rand(1)


def test_an_endless_answer_is_stopped(monkeypatch) -> None:
    monkeypatch.setattr(exercises, "LIMIT", 0.2)
    before = threading.active_count()
    assert verdict("1.1", forever).key == "slow"
    assert threading.active_count() == before
    torch.manual_seed(0)
    expected = torch.rand(3)
    torch.manual_seed(0)
    time.sleep(0.05)
    assert torch.equal(torch.rand(3), expected)


def test_an_answer_that_cannot_be_stopped(monkeypatch) -> None:
    monkeypatch.setattr(exercises, "LIMIT", 0.2)
    end = threading.Event()
    assert verdict("1.1", lambda X: end.wait(30)).key == "endless"
    end.set()


def loud(X):
    print(len(X))
    return X.flip(3)


def test_check_prints_one_line(capsys) -> None:
    """The output of the answer's first, small call stands before it."""
    d2lext.check(1.1, loud)
    d2lext.check("1.1", ...)
    d2lext.check("0.7", flip_np)
    d2lext.check(["1.1"], flip_np)
    first, *lines = capsys.readouterr().out.splitlines()
    assert int(first) < 10 and lines[0].startswith("1.1: right: ")
    assert lines[1] == "1.1: not answered yet."
    assert lines[2].startswith("0.7: no exercise has this number. Choose from 1.1, ")
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
    verdict("9.1", lambda x, y, a: mixed(x, y, beta(x, a)))
    assert torch.equal(torch.rand(3), expected[0])
    assert np.random.rand() == expected[1]
