"""The collector, fed lessons that are right and lessons that are broken."""

import ast
import builtins
import importlib.util
import keyword
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import nbformat
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tools import collect

ROOT = Path(__file__).resolve().parent.parent


class Course:
    """A folder of lessons and the package that they are collected into."""

    def __init__(self, root: Path):
        self.notebooks, self.package = root / "notebooks", root / "package"
        self.notebooks.mkdir()
        self.package.mkdir()

    def lesson(self, name: str, *sources: str) -> None:
        """Write a notebook of code cells with ids cell-0, cell-1 and so on."""
        cells = [
            nbformat.v4.new_code_cell(source, id=f"cell-{i}")
            for i, source in enumerate(sources)
        ]
        cells.insert(0, nbformat.v4.new_markdown_cell("Prose.", id="prose"))
        nbformat.write(
            nbformat.v4.new_notebook(cells=cells), self.notebooks / f"{name}.ipynb"
        )

    def collect(self, *args: str) -> int:
        paths = ["--notebooks", str(self.notebooks), "--package", str(self.package)]
        return collect.main([*args, *paths])

    def texts(self) -> dict[str, str]:
        return {p.name: p.read_text(encoding="utf-8") for p in self.package.iterdir()}

    def load(self, module: str) -> ModuleType:
        path = self.package / f"{module}.py"
        spec = importlib.util.spec_from_file_location(module, path)
        loaded = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(loaded)
        return loaded


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
    "half a block": ("#@save\nx = 1\ndef f():", "line 3: expected an indented block"),
    "await": ("#@save\nx = await y", "line 2: 'await' outside function"),
    "late global": ("#@save\ndef f():\n    x = 1\n    global x", "line 4: name 'x'"),
    "line magic": ("#@save\n%matplotlib inline\nx = 1", "'%matplotlib inline' is a Ju"),
    "shell": ("#@save\nx = 1\n!ls", "'!ls' is a Jupyter command"),
    "magic in a block": ("#@save\ndef f():\n    %time g()", "'%time g()' is a Jup"),
    "question": ("#@save\n?print", "'?print' is a Jupyter command"),
    "nothing": ("#@save", "nothing below #@save"),
    "only a comment": ("#@save\n# Nothing.\n", "nothing below #@save"),
    "a call": ("#@save\nx = 1\nprint(x)", "line 3: a saved cell holds imports, defi"),
    "an attribute": ("#@save\nimport os\nos.x = 1", "line 3: a saved cell holds imp"),
    "a loop": ("#@save\nfor i in ():\n    pass", "line 2: a saved cell holds"),
    "a docstring": ('#@save\n"""Words."""', "line 2: a saved cell holds"),
    "two statements": ("#@save\nx = 1; y = 2", "line 2: two statements on one line"),
    "after an import": ("#@save\nimport os; y = 2", "line 2: two statements on one"),
    "after a block": ("#@save\nx = [\n    1]; y = 2", "line 3: two statements on one"),
    "twice in a cell": ("#@save\nx = 1\nx = 2", "'x' is saved already"),
    "free name": ("#@save\ndef f():\n    return g()", "'g' is neither defined nor imp"),
    "free annotation": ("#@save\ndef f(x: T):\n    return x", "'T' is neither"),
    "free decorator": ("#@save\n@cache\ndef f():\n    pass", "'cache' is neither"),
    "free default": ("#@save\ndef f(x=np):\n    return x", "'np' is neither"),
    "free in a class": (
        "#@save\nclass A:\n    x = 1\n    def f(self):\n        return x",
        "'x' is neither",
    ),
    "free name, a comprehension's": (
        "#@save\nX = [i for i in range(3)]\ndef f():\n    return i",
        "'i' is neither",
    ),
    "a space": ("# @save\nx = 1", "write '#@save' exactly so"),
    "a space at the end": ("#@save \nx = 1", "not '#@save '"),
    "a space at the start": (" #@save\nx = 1", "not ' #@save'"),
    "a capital": ("#@Save\nx = 1", "not '#@Save'"),
    "below the first line": ("x = 1\n#@save\ny = 2", "as the first line and alone"),
    "behind a definition": ("def f():  #@save\n    pass", "not 'def f():  #@save'"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_broken_cell(course: Course, refused, name: str) -> None:
    source, words = BROKEN[name]
    course.lesson("07_good", "#@save\ngood = 1")
    course.lesson("08_broken", "import this_is_not_looked_at", source)
    message = refused()
    assert "08_broken.ipynb, code cell 1 (cell-1)" in message
    assert words in message


def test_name_in_two_lessons(course: Course, refused) -> None:
    course.lesson("01_flip", "#@save\ndef apply():\n    pass")
    course.lesson("02_crop", "1", "#@save\napply = 2")
    message = refused()
    assert "02_crop.ipynb, code cell 1 (cell-1): 'apply' is saved already" in message
    assert "01_flip.ipynb, code cell 0 (cell-0)" in message


def test_name_twice_in_a_lesson(course: Course, refused) -> None:
    course.lesson("01_flip", "#@save\nclass A:\n    pass", "#@save\nx, A = 1, 2")
    message = refused()
    assert "01_flip.ipynb, code cell 1 (cell-1): 'A' is saved already" in message
    assert "code cell 0 (cell-0)" in message


def test_import_outside_a_saved_cell_does_not_count(course: Course, refused) -> None:
    course.lesson("01_flip", "import math", "#@save\ndef f():\n    return math.pi")
    message = refused()
    assert "01_flip.ipynb, code cell 1 (cell-1): 'math' is neither" in message


def test_free_name_is_told_where_it_is_read(course: Course, refused) -> None:
    course.lesson("01_flip", "#@save\ndef f():\n    pass", "#@save\nx = [f, g]")
    assert "code cell 1 (cell-1): 'g' is neither" in refused()


@pytest.mark.parametrize("name", ["flip", "1_flip", "01_Flip", "01-flip", "01_flip 2"])
def test_badly_named_lesson(course: Course, refused, name: str) -> None:
    course.lesson(name, "x = 1")
    assert "flip.py" not in collect.collected(course.notebooks)
    course.lesson(name, "#@save\nx = 1")
    assert f"{name}.ipynb: a lesson is named NN_topic.ipynb" in refused()


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", "3", '"cells"'])
def test_not_a_notebook(course: Course, refused, text: str) -> None:
    (course.notebooks / "01_flip.ipynb").write_text(text)
    assert "01_flip.ipynb: not a notebook" in refused()


def test_two_lessons_of_one_topic(course: Course, refused) -> None:
    course.lesson("01_flip", "#@save\nx = 1")
    course.lesson("02_flip", "#@save\ny = 1")
    message = refused()
    assert "02_flip.ipynb and 01_flip.ipynb would both" in message
    assert "flip.py" in message


def test_module_named_as_a_function(course: Course, refused) -> None:
    course.lesson("01_mixup", "#@save\nx = 1")
    course.lesson("02_loss", "#@save\ndef mixup():\n    pass")
    message = refused()
    assert "02_loss.ipynb, code cell 0 (cell-0): 'mixup'" in message
    assert "01_mixup.ipynb" in message


def test_handwritten_module_is_not_overwritten(course: Course, refused) -> None:
    (course.package / "store.py").write_text('"""By hand."""\n')
    course.lesson("01_store", "#@save\nx = 1")
    assert "store.py, which is written by hand" in refused()


def test_without_lessons_nothing_is_deleted(course: Course, capsys) -> None:
    course.lesson("01_flip", "#@save\nx = 1")
    assert course.collect() == 0
    before = course.texts()
    course.notebooks = course.notebooks.with_name("notebook")
    assert course.collect() == 1
    assert "there is no folder" in capsys.readouterr().err
    assert course.texts() == before


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
    "#@save\nfrom functools import cache\n\n"
    "@cache\ndef area(r, *, rest=()):\n"
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
    shape = good.load("shape")
    public = ["Shape", "TABLE", "TWO", "area", "high", "low", "rest"]
    assert shape.__all__ == public
    assert shape.area(2, rest=(1, 1)) == pytest.approx(3.14159 * 4 + 2 + 1, rel=1e-4)
    assert shape._double("ab") == pytest.approx(4 * 2.71828, rel=1e-4)
    assert (shape.low, shape.high, shape.rest) == (1, 2, [3])
    assert shape.TABLE == {1: 2}
    assert not hasattr(shape, "not_saved") and not hasattr(shape, "json")


def test_imports_are_gathered_once(good: Course) -> None:
    text = good.texts()["shape.py"]
    body = ast.parse(text).body
    imports = [ast.unparse(n) for n in body if isinstance(n, ast.Import)]
    assert sorted(imports) == ["import math", "import os.path"]
    froms = [ast.unparse(n) for n in body if isinstance(n, ast.ImportFrom)]
    assert froms == [
        "from collections import abc, deque",
        "from functools import cache",
    ]
    first = next(i for i, n in enumerate(body) if isinstance(n, ast.Assign))
    assert not any(isinstance(n, ast.Import | ast.ImportFrom) for n in body[first:])


def test_comments_and_origins_are_kept(good: Course) -> None:
    text = good.texts()["shape.py"]
    assert text.startswith('"""Collected from notebooks/01_shape.ipynb')
    for comment in ("# Why it is 2.", "# exactly", "# In place.", "# only here"):
        assert text.count(comment) == 1
    origins = [line for line in text.splitlines() if line.startswith("# 01_shape")]
    # Not for cell-0, of which only the imports are left.
    assert origins == [f"# 01_shape.ipynb: cell-{i}" for i in (2, 3, 4)]
    assert "@save" not in text


def test_index_leads_to_the_public_names(good: Course) -> None:
    names = good.load("_saved").NAMES
    assert names == dict.fromkeys(good.load("shape").__all__, "shape")


def test_written_as_ruff_formats(good: Course) -> None:
    for command in (["check", "--select", "E,F,I"], ["format", "--check"]):
        subprocess.run(
            [sys.executable, "-m", "ruff", *command, "--no-cache", str(good.package)],
            cwd=ROOT,
            check=True,
            capture_output=True,
        )


def test_collected_twice_is_the_same(good: Course, capsys) -> None:
    before = good.texts()
    capsys.readouterr()
    assert good.collect() == 0
    assert capsys.readouterr().out == ""
    assert good.texts() == before
    for path in good.package.iterdir():
        path.unlink()
    assert good.collect() == 0
    assert good.texts() == before


def test_future_import_comes_first(course: Course) -> None:
    course.lesson(
        "01_flip",
        "#@save\nimport math",
        "#@save\nfrom __future__ import annotations\n\ndef f(x: int):\n    return math",
    )
    assert course.collect() == 0
    assert course.load("flip").f.__annotations__ == {"x": "int"}


def test_batch_is_not_lifted(course: Course) -> None:
    course.lesson("01_crop", "#@save\nclass RandomCrop:\n    pass")
    course.lesson("06_batch", "#@save\nclass RandomCrop:\n    x = 1\nFlip = 2")
    assert course.collect() == 0
    assert course.load("_saved").NAMES == {"RandomCrop": "crop"}
    assert course.load("batch").__all__ == ["Flip", "RandomCrop"]


def test_lesson_that_saves_nothing_has_no_module(course: Course, capsys) -> None:
    course.lesson("01_flip", "#@save\nx = 1")
    course.lesson("02_crop", "x = 1")
    (course.package / "store.py").write_text('"""By hand."""\n')
    assert course.collect() == 0
    assert set(course.texts()) == {"flip.py", "_saved.py", "store.py"}
    course.lesson("01_flip", "x = 1")
    capsys.readouterr()
    assert course.collect() == 0
    assert "deleted d2lext/flip.py" in capsys.readouterr().out
    assert set(course.texts()) == {"_saved.py", "store.py"}


def test_check_finds_drift(good: Course, capsys) -> None:
    assert good.collect("--check") == 0
    edited = good.texts()["shape.py"].replace("exactly", "about")
    (good.package / "shape.py").write_text(edited)
    capsys.readouterr()
    assert good.collect("--check") == 1
    assert "d2lext/shape.py differs from its lesson" in capsys.readouterr().err
    assert good.texts()["shape.py"] == edited
    assert good.collect() == 0
    assert good.collect("--check") == 0


def test_check_finds_a_missing_module(good: Course, capsys) -> None:
    (good.package / "shape.py").unlink()
    assert good.collect("--check") == 1
    assert "d2lext/shape.py" in capsys.readouterr().err


def test_check_finds_a_left_over_module(good: Course, capsys) -> None:
    good.lesson("01_form", *GOOD)
    (good.notebooks / "01_shape.ipynb").unlink()
    assert good.collect("--check") == 1
    words = capsys.readouterr().err
    assert "d2lext/shape.py is left over" in words
    assert "d2lext/form.py differs from its lesson" in words
    assert "shape.py" in good.texts() and "form.py" not in good.texts()


def test_this_repository_is_collected() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tools.collect", "--check"],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr


names = st.from_regex(r"[a-z_][a-z0-9_]{0,5}", fullmatch=True).filter(
    lambda name: not keyword.iskeyword(name)
)


@st.composite
def functions(draw: st.DrawFn) -> tuple[str, set[str]]:
    """A cell with one function `saved_f`, and the names that are free in it."""
    pool = draw(st.lists(names, min_size=4, max_size=10, unique=True))
    cut = draw(st.integers(1, 3))
    own, read = pool[:cut], draw(st.lists(st.sampled_from(pool), max_size=5))
    bind = {
        "parameter": "def saved_f({own}):\n    return [{read}]",
        "assignment": "def saved_f():\n    {own} = 1, 2, 3\n    return [{read}]",
        "loop": "def saved_f():\n    for {own} in []:\n        [{read}]",
        "comprehension": "def saved_f():\n    return [[{read}] for {own} in []]",
        "lambda": "saved_f = lambda {own}: [{read}]",
        "nested": "def saved_f({own}):\n    def inner():\n        return [{read}]",
    }
    source = draw(st.sampled_from(sorted(bind.values())))
    source = source.format(own=", ".join(own) + ",", read=", ".join(read))
    source = source.replace(",:", ":").replace("lambda ,", "lambda")
    return f"#@save\n{source}", set(read) - set(own)


@settings(max_examples=60)
@given(functions())
def test_collects_exactly_what_has_no_free_names(case: tuple[str, set[str]]) -> None:
    source, free = case
    free -= set(dir(builtins))
    with tempfile.TemporaryDirectory() as folder:
        course = Course(Path(folder))
        course.lesson("01_flip", source)
        if not free:
            collect.read_lessons(course.notebooks)
            return
        with pytest.raises(collect.CollectError) as error:
            collect.read_lessons(course.notebooks)
        assert any(f"{name!r} is neither" in str(error.value) for name in free)
        missing = "".join(f"{name} = 1\n" for name in sorted(free))
        course.lesson("01_flip", source, f"#@save\n{missing}")
        collect.read_lessons(course.notebooks)
