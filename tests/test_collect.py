"""The collector, fed lessons that are right and lessons that are broken."""

import ast
import runpy
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest

from tests.lessons import write
from tools import collect


class Course:
    """A folder of lessons and the package that they are collected into."""

    def __init__(self, root: Path):
        self.root, self.notebooks = root, root / "notebooks"
        self.package = root / "d2lext"
        self.notebooks.mkdir()
        self.package.mkdir()

    def lesson(self, name: str, *sources: str) -> None:
        write(self.notebooks / f"{name}.ipynb", *sources)

    def collect(self, *args: str) -> int:
        return collect.main([*args], self.root)

    def texts(self) -> dict[str, str]:
        return {p.name: p.read_text(encoding="utf-8") for p in self.package.iterdir()}


@pytest.fixture
def course(tmp_path: Path) -> Course:
    return Course(tmp_path)


@pytest.fixture
def refused(course: Course, capsys: pytest.CaptureFixture) -> Callable[[], str]:
    """Collect, which must fail and write nothing; return the message."""

    def refused() -> str:
        before = course.texts()
        assert course.collect() == 1
        assert course.texts() == before
        words = capsys.readouterr().err
        assert words.startswith("collect: ") and words.count("\n") == 1
        return words

    return refused


BROKEN = {
    "syntax error": ("#@save\ndef f(:\n    pass", "line 2: invalid syntax: 'def f(:'"),
    "await": ("#@save\nx = await y", "line 2: 'await' outside function"),
    "shell": ("#@save\nx = 1\n!ls", "'!ls' is a Jupyter command"),
    "magic in a block": ("#@save\ndef f():\n    %time g()", "'%time g()' is a Jup"),
    "question": ("#@save\n?print", "'?print' is a Jupyter command"),
    "only a comment": ("#@save\n# Nothing.\n", "nothing below #@save"),
    "a call": ("#@save\nx = 1\nprint(x)", "line 3: a saved cell holds imports, defi"),
    "an attribute": ("#@save\nimport os\nos.x = 1", "line 3: a saved cell holds imp"),
    "after an import": ("#@save\nimport os; y = 2", "line 2: two statements on one"),
    "after a block": ("#@save\nx = [\n    1]; y = 2", "line 3: two statements on one"),
    "twice in a cell": ("#@save\nx = 1\nx = 2", "'x' is saved already"),
    "not saved": ("#@save\ndef f():\n    return other", "name `other`; save it too"),
    "a space": ("# @save\nx = 1", "write '#@save' exactly so"),
    "a space at the end": ("#@save \nx = 1", "not '#@save '"),
    "a capital": ("#@Save\nx = 1", "not '#@Save'"),
    "below the first line": ("x = 1\n#@save\ny = 2", "as the first line and alone"),
    "behind a definition": ("def f():  #@save\n    pass", "not 'def f():  #@save'"),
    "an import hidden": ("#@save\nimport math\ndef math():\n    pass", "rename one"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_broken_cell(course: Course, refused, name: str) -> None:
    source, words = BROKEN[name]
    course.lesson("07_good", "#@save\ngood = 1")
    course.lesson("08_broken", "import other", source, "#@save\nbehind = 1")
    message = refused()
    assert "08_broken.ipynb, code cell 1 (cell-1)" in message and words in message


F, X = "#@save\ndef f():\n    pass", "#@save\nx = 1"
# Lessons by name and cells, and what the message says.
TOGETHER = [
    ({"01_flip": [F], "02_crop": ["1", F]}, "'f' is saved already in 01_flip.ipynb"),
    ({"06_batch": [F, "#@save\nx, f = 1, 2"]}, "'f' is saved already in 06_batch.i"),
    ({"01_flip": ["#@save\nfrom math import *"]}, "flip.ipynb: `from math import *` u"),
    ({"01_flip": [X], "02_flip": [F]}, "02_flip.ipynb: flip.py has a lesson already"),
    ({"01_f": [X], "02_loss": [F]}, "code cell 0 (cell-0): 'f' is also a lesson's mod"),
    ({"01_store": [X]}, "store.py: is written by hand"),
]


@pytest.mark.parametrize(("lessons", "words"), TOGETHER)
def test_lessons_that_do_not_go_together(course: Course, refused, lessons, words):
    (course.package / "store.py").write_text('"""By hand."""\n')
    for lesson, sources in lessons.items():
        course.lesson(lesson, *sources)
    assert words in refused()


@pytest.mark.parametrize("name", ["flip", "1_flip", "01_Flip", "01-flip", "01_flip 2"])
def test_badly_named_lesson(course: Course, refused, name: str) -> None:
    course.lesson(name, "x = 1")
    assert collect.collected(course.notebooks) == {}
    course.lesson(name, "#@save\nx = 1")
    assert f"{name}.ipynb: a lesson is named NN_topic.ipynb" in refused()


@pytest.mark.parametrize("text", ["", "{}", "3"])
def test_not_a_notebook(course: Course, refused, text: str) -> None:
    (course.notebooks / "01_flip.ipynb").write_text(text)
    assert "01_flip.ipynb: not a notebook" in refused()


def test_without_lessons_nothing_is_deleted(good: Course, refused) -> None:
    good.notebooks.rename(good.root / "lessons")
    assert "there is no folder" in refused()


GOOD = (
    "#@save\nimport math\nfrom collections import deque, abc\nimport os.path",
    "import json\n\nnot_saved = 1",
    "#@save\nimport math\n\n"
    "# Why it is 2.\nTWO: int = 2  # exactly\n\n\n"
    "def _double(x: abc.Sized) -> float:\n"
    '    """Twice."""\n'
    "    # In place.\n"
    "    import json  # only here\n"
    "    return json.loads('2') * len(x) * math.e",
    "#@save\nfrom __future__ import annotations\nfrom functools import cache\n\n"
    "@cache\ndef area(r: float, *, rest=()):\n"
    "    a, *b = r, *rest\n"
    "    return math.pi * a**TWO + sum(x for x in b) + deque([1])[0]\n"
    "class Shape:\n"
    "    sides = TWO\n"
    "    def copy(self):\n"
    "        return Shape(), __class__, __name__, os.path, _double",
    "#@save\n(low, high), [*rest] = (1, 2), [3]\nTABLE = {k: v for k, v in [(1, 2)]}",
)


@pytest.fixture
def good(course: Course) -> Course:
    course.lesson("01_shape", *GOOD)
    assert course.collect() == 0
    return course


def test_module_holds_what_is_saved(good: Course) -> None:
    shape = SimpleNamespace(**runpy.run_path(str(good.package / "shape.py")))
    assert shape.area(2, rest=(1, 1)) == pytest.approx(3.14159 * 4 + 2 + 1, rel=1e-4)
    assert shape._double("ab") == pytest.approx(4 * 2.71828, rel=1e-4)
    assert (shape.low, shape.high, shape.rest) == (1, 2, [3])
    assert shape.TABLE == {1: 2}
    assert not hasattr(shape, "not_saved") and not hasattr(shape, "json")


def test_text_of_a_module(good: Course) -> None:
    """Imports once, sorted and first; comments and origins kept."""
    text = good.texts()["shape.py"]
    body = ast.parse(text).body
    found = [ast.unparse(n) for n in body if isinstance(n, collect.IMPORTS)]
    later = ["from collections import abc, deque", "from functools import cache"]
    first = ["from __future__ import annotations", "import math", "import os.path"]
    assert found == first + later == [ast.unparse(n) for n in body[1:6]]
    assert text.startswith('"""Collected from notebooks/01_shape.ipynb')
    for comment in ("# Why it is 2.", "# exactly", "# In place.", "# only here"):
        assert text.count(comment) == 1
    origins = [line for line in text.splitlines() if line.startswith("# 01_shape")]
    # Not for cell-0, of which only the imports are left.
    assert origins == [f"# 01_shape.ipynb: cell-{i}" for i in (2, 3, 4)]
    assert "@save" not in text


def test_batch_may_have_names_of_others(course: Course) -> None:
    course.lesson("01_crop", "#@save\nclass RandomCrop:\n    pass")
    course.lesson("06_batch", "#@save\nclass RandomCrop:\n    x = 1\nFlip = 2")
    assert course.collect() == 0 and "x = 1" in course.texts()["batch.py"]


def test_lesson_that_saves_nothing_has_no_module(good: Course) -> None:
    (good.package / "store.py").write_text('"""By hand."""\n')
    good.lesson("01_shape", "x = 1")
    assert good.collect() == 0
    assert set(good.texts()) == {"store.py"}


def test_check_finds_drift_and_writes_nothing(good: Course, capsys) -> None:
    written, module = good.texts(), good.package / "shape.py"
    assert good.collect("--check") == 0
    edited = module.read_text().replace("exactly", "about")
    module.write_text(edited)
    assert good.collect("--check") == 1
    assert "d2lext/shape.py differs from its lesson" in capsys.readouterr().err
    assert module.read_text() == edited
    module.unlink()
    assert good.collect("--check") == 1 and not module.exists()
    assert good.collect() == 0 and good.texts() == written
    capsys.readouterr()
    assert (good.collect(), capsys.readouterr().out) == (0, "")
    good.lesson("01_form", *GOOD)
    (good.notebooks / "01_shape.ipynb").unlink()
    assert good.collect("--check") == 1
    words = capsys.readouterr().err
    assert "d2lext/shape.py is left over" in words
    assert "d2lext/form.py differs from its lesson" in words
    assert module.exists() and "form.py" not in good.texts()
