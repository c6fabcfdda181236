"""`import d2lext as d2l` stands in for `from d2l import torch as d2l`, and is cheap.

Imports point one way: course and tools import widgets, all the root, never back.
"""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import d2lext
from d2lext.places import PACKAGE
from tests.lessons import LESSONS

# For fresh interpreters, since what is imported is what is tested; also without d2l, as
# after a plain installation.
LIGHT = """
import sys
import pytest
if "without" in sys.argv:
    sys.modules["d2l"] = None
import d2lext as d2l

# Its own imports are found before `__getattr__` is asked.
own = {name for name in vars(d2l) if name[0] != "_"}
assert own & (d2l._book() | d2l._NAMES.keys() | d2l._IMPORTS.keys()) <= {"re"}
assert not d2l._MODULES & (d2l._book() | d2l._NAMES.keys() | d2l._IMPORTS.keys())
assert {"apply", "explore", "data_path", "flip", "images", "plt"} <= {*dir(d2l)}
assert ("accuracy" in dir(d2l)) is ("with" in sys.argv)
with pytest.raises(AttributeError, match="the course .d2lext..*'no_such_name'") as told:
    d2l.no_such_name
hint = "pip install --no-deps d2l==1.0.3" in str(told.value)
assert hint is ("without" in sys.argv)
with pytest.raises(ImportError, match="neither_this"):
    from d2lext import neither_this
assert not hasattr(d2l, "_no_such_name")
assert not any(map(sys.modules.get, ("torch", "d2l", "matplotlib")))

assert d2l.data_path("cat.jpg").name == "cat.jpg"
assert d2l.Image.__name__ == "PIL.Image" and d2l.defaultdict.__name__ == "defaultdict"
assert d2l.F.__name__ == "torch.nn.functional"
assert d2l.plt.__name__ == "matplotlib.pyplot"
assert not sys.modules.get("d2l")
"""
FULL = """
import rlcompleter
import sys
import d2lext as d2l
from d2lext import apply

assert apply is d2l.apply is d2l.flip.apply and apply.__module__ == "d2lext.flip"
assert d2l.explore.__module__ == "d2lext.widgets.sliders"
assert "d2l.torch" not in sys.modules

from IPython.core.completer import provisionalcompleter
from IPython.core.interactiveshell import InteractiveShell
shell, python = InteractiveShell.instance(), rlcompleter.Completer({"d2l": d2l})
shell.user_ns["d2l"] = d2l
for typed, name in ("d2l.app", "apply"), ("d2l.accu", "accuracy"):
    with provisionalcompleter():
        found = [c.text for c in shell.Completer.completions(typed, len(typed))]
    assert found == [name]
    assert python.attr_matches(typed)[0].rstrip("(") == f"d2l.{name}"

import d2l.torch as book
assert d2l.accuracy is book.accuracy and d2l.Timer is book.Timer
assert [name for name in dir(d2l) if not hasattr(d2l, name)] == []
theirs = {name: value for name, value in vars(book).items() if name[0] != "_"}
assert theirs.keys() <= {*dir(d2l)}
same = theirs.keys() - d2l._NAMES.keys()
assert [name for name in same if getattr(d2l, name) is not theirs[name]] == []
"""


@pytest.mark.parametrize(
    ("script", "d2l"), [(LIGHT, "with"), (LIGHT, "without"), (FULL, "with")]
)
def test_the_door_in_a_fresh_interpreter(script: str, d2l: str) -> None:
    """Names are listed and told without importing anything heavy; all are right."""
    if d2l == "with":
        pytest.importorskip("d2l")  # not on Python 3.12 and later
    subprocess.run([sys.executable, "-c", script, d2l], check=True)


def test_what_d2l_imports_and_is_not_there_is_named(monkeypatch) -> None:
    """`pip install --no-deps d2l` brings neither pandas nor scipy."""
    pytest.importorskip("d2l")
    monkeypatch.delitem(sys.modules, "d2l.torch", raising=False)
    monkeypatch.delitem(vars(d2lext), "accuracy", raising=False)
    monkeypatch.setitem(sys.modules, "pandas", None)
    words = r"^d2l\.torch needs pandas: pip install pandas$"
    with pytest.raises(ModuleNotFoundError, match=words):
        _ = d2lext.accuracy


# Which way imports point

NUMBERS = {path.stem[3:]: int(path.stem[:2]) for path in LESSONS}
# Folders: a module imports from its own, from lower ones, and from the root.
LAYERS = {"train": 1, "widgets": 2, "course": 3}


def imported(path: Path) -> Iterator[str]:
    """Full names of what a module imports of ours, wherever the import stands."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{path.name}: write imports in full"
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        yield from (name for name in names if name.split(".")[0] in ("d2lext", "tools"))


@pytest.mark.parametrize("path", sorted(PACKAGE.rglob("*.py")), ids=lambda p: p.stem)
def test_a_module_imports_only_what_stands_before_it(path: Path) -> None:
    own = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
    top = LAYERS.get(own, 0)
    for name in imported(path):
        package, module, *_ = [*name.split("."), ""]
        assert package == "d2lext" and LAYERS.get(module, 0) <= top, name
        if {own, module} <= NUMBERS.keys() and module != own:
            assert NUMBERS[module] < NUMBERS[own], name


def test_imports_are_found_wherever_they_stand(tmp_path: Path) -> None:
    (bad := tmp_path / "bad.py").write_text(
        "import json\nimport tools.x\ndef f():\n    from d2lext.course import answers"
    )
    assert list(imported(bad)) == ["tools.x", "d2lext.course.answers"]
