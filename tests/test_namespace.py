"""`import d2lext as d2l` stands in for `from d2l import torch as d2l`, and is cheap."""

import json
import subprocess
import sys

import pytest

import d2lext

# Fresh interpreters, since what is imported is what is tested. The second time there is
# no d2l, as after a plain installation.
LIGHT = """
import json, sys
if sys.argv[1] == "without":
    sys.modules["d2l"] = None
told = {}
def tell(name, value):
    heavy = ("torch", "d2l", "d2l.torch", "matplotlib")
    told[name] = value, [name for name in heavy if sys.modules.get(name)]
import d2lext as d2l
tell("import", [name for name in vars(d2l) if name[0] != "_"])
tell("dir", dir(d2l))
try:
    d2l.no_such_name
except AttributeError as error:
    tell("unknown", str(error))
tell("private", hasattr(d2l, "_no_such_name"))
try:
    from d2lext import neither_this
except ImportError as error:
    tell("unknown import", str(error))
tell("data_path", d2l.data_path("cat.jpg").name)
for name in ("Image", "defaultdict", "plt", "nn", "F", "transforms", "data", "np"):
    tell(name, getattr(d2l, name).__name__)
print(json.dumps(told))
"""
PLAIN = {
    "Image": "PIL.Image",
    "defaultdict": "defaultdict",
    "plt": "matplotlib.pyplot",
    "nn": "torch.nn",
    "F": "torch.nn.functional",
    "transforms": "torchvision.transforms",
    "data": "torch.utils.data",
    "np": "numpy",
}

FULL = """
import json, rlcompleter, sys
import d2lext as d2l
told = {}
from d2lext import apply
told["from import"] = apply is d2l.apply
told["apply"] = d2l.apply is d2l.flip.apply and d2l.apply.__module__ == "d2lext.flip"
told["explore"] = d2l.explore.__module__ == "d2lext.widgets.sliders"
told["light"] = "d2l.torch" not in sys.modules

from IPython.core.completer import provisionalcompleter
from IPython.core.interactiveshell import InteractiveShell
shell = InteractiveShell.instance()
shell.user_ns["d2l"] = d2l
def tab(text):
    with provisionalcompleter():
        return [c.text for c in shell.Completer.completions(text, len(text))]
python = rlcompleter.Completer({"d2l": d2l})
told["tab"] = tab("d2l.app") + tab("d2l.accu")
told["tab"] += [python.attr_matches(f"d2l.{s}")[0].rstrip("(") for s in ("app", "accu")]

import d2l.torch as book
told["accuracy"] = d2l.accuracy is book.accuracy and d2l.Timer is book.Timer
told["broken"] = [name for name in dir(d2l) if not hasattr(d2l, name)]
public = [name for name in dir(book) if name[0] != "_"]
told["missing"] = [name for name in public if name not in dir(d2l)]
ours = set(json.loads(sys.argv[1]))
told["other"] = [
    name for name in public
    if name not in ours and getattr(d2l, name, None) is not getattr(book, name)
]
print(json.dumps(told))
"""


def told_by(script: str, *args: str) -> dict:
    command = [sys.executable, "-c", script, *args]
    return json.loads(subprocess.check_output(command, text=True).splitlines()[-1])


@pytest.mark.parametrize("d2l", ["with", "without"])
def test_a_light_door(d2l: str) -> None:
    """Names are listed and told without importing anything heavy."""
    if d2l == "with":
        pytest.importorskip("d2l")  # not on Python 3.12 and later
    told = told_by(LIGHT, d2l)
    own, heavy = told["import"]
    # Its own imports are found before `__getattr__` is asked.
    hidden = set(own) & (d2lext._book() | d2lext._NAMES.keys() | {*d2lext._IMPORTS})
    assert hidden <= {"re"} and heavy == []
    names, heavy = told["dir"]
    assert {"apply", "explore", "data_path", "flip", "images", "plt"} <= set(names)
    assert ("accuracy" in names) is (d2l == "with") and heavy == []
    words, heavy = told["unknown"]
    assert "the course (d2lext)" in words and "'no_such_name'" in words
    assert ("pip install --no-deps d2l==1.0.3" in words) is (d2l == "without")
    assert heavy == [] and told["private"] == [False, []]
    words, heavy = told["unknown import"]
    assert "neither_this" in words and heavy == []
    assert told["data_path"][0] == "cat.jpg"
    assert {name: told[name][0] for name in PLAIN} == PLAIN
    assert not any("d2l" in told[name][1] for name in PLAIN)


def test_saved_names_are_their_modules_and_the_books_the_books() -> None:
    pytest.importorskip("d2l")
    told = told_by(FULL, json.dumps([*d2lext._NAMES]))
    assert told.pop("tab") == ["apply", "accuracy", "d2l.apply", "d2l.accuracy"]
    for name in ("broken", "missing", "other"):
        assert told.pop(name) == [], name
    assert all(told.values()), told


def test_what_d2l_imports_and_is_not_there_is_named(monkeypatch) -> None:
    """`pip install --no-deps d2l` brings neither pandas nor scipy."""
    pytest.importorskip("d2l")
    monkeypatch.delitem(sys.modules, "d2l.torch", raising=False)
    monkeypatch.delitem(vars(d2lext), "accuracy", raising=False)
    monkeypatch.setitem(sys.modules, "pandas", None)
    words = r"^d2l\.torch needs pandas: pip install pandas$"
    with pytest.raises(ModuleNotFoundError, match=words):
        _ = d2lext.accuracy


def test_no_name_hides_another() -> None:
    assert not d2lext._MODULES & (d2lext._book() | d2lext._IMPORTS.keys())
    assert not d2lext._MODULES & d2lext._NAMES.keys()
