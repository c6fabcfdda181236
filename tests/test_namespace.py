"""`import d2lext as d2l` stands in for `from d2l import torch as d2l`, and is cheap."""

import json
import subprocess
import sys

import pytest

import d2lext
from d2lext._saved import NAMES

# Fresh interpreters, since what is imported is what is tested.
LIGHT = """
import json, sys
told = {}
def heavy():
    return sorted({"torch", "d2l", "d2l.torch", "matplotlib"} & set(sys.modules))
import d2lext as d2l
told["import"] = heavy()
told["own"] = [name for name in vars(d2l) if name[0] != "_"]
told["dir"] = dir(d2l), heavy()
try:
    d2l.no_such_name
except AttributeError as error:
    told["unknown"] = str(error), heavy()
told["private"] = hasattr(d2l, "_no_such_name"), heavy()
try:
    from d2lext import neither_this
except ImportError as error:
    told["unknown import"] = str(error), heavy()
path = d2l.data_path("cat.jpg").name
told["data_path"] = path, heavy()
image = d2l.Image.__name__
told["Image"] = image, heavy()
plt = d2l.plt.__name__
told["plt"] = plt, heavy()
print(json.dumps(told))
"""

FULL = """
import json, rlcompleter, sys
import d2lext as d2l
told = {}
from d2lext import apply
told["from import"] = apply is d2l.apply
told["apply"] = d2l.apply is d2l.flip.apply and d2l.apply.__module__ == "d2lext.flip"
told["explore"] = d2l.explore is d2l.sliders.explore
told["before"] = "d2l.torch" in sys.modules

from IPython.core.completer import provisionalcompleter
from IPython.core.interactiveshell import InteractiveShell
shell = InteractiveShell.instance()
shell.user_ns["d2l"] = d2l
def tab(text):
    with provisionalcompleter():
        return [c.text for c in shell.Completer.completions(text, len(text))]
told["tab"] = tab("d2l.app") + tab("d2l.accu")
python = rlcompleter.Completer({"d2l": d2l})
told["python's tab"] = python.attr_matches("d2l.app") + python.attr_matches("d2l.accu")

import d2l.torch as book
told["accuracy"] = d2l.accuracy is book.accuracy and d2l.Timer is book.Timer
broken = {}
for name in dir(d2l):
    try:
        getattr(d2l, name)
    except Exception as error:
        broken[name] = repr(error)
told["broken"] = broken
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
    done = subprocess.run(
        [sys.executable, "-c", script, *args], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@pytest.fixture(scope="module")
def light() -> dict:
    return told_by(LIGHT)


@pytest.fixture(scope="module")
def full() -> dict:
    return told_by(FULL, json.dumps([*d2lext._NAMES]))


def test_importing_costs_nothing(light: dict) -> None:
    assert light["import"] == []


def test_dir_lists_ours_and_the_books_and_imports_neither(light: dict) -> None:
    names, heavy = light["dir"]
    assert {"apply", "show_images", "explore", "data_path"} <= set(names)
    assert {"accuracy", "Timer", "train_ch13", "nn", "plt", "Image"} <= set(names)
    assert {"flip", "sliders", "images"} <= set(names)
    assert heavy == []


def test_unknown_name_is_told_without_importing(light: dict) -> None:
    words = "neither the course (d2lext) nor d2l.torch has 'no_such_name'"
    assert light["unknown"] == [words, []]
    assert light["private"] == [False, []]
    words, heavy = light["unknown import"]
    assert "neither_this" in words and heavy == []


def test_plain_imports_of_the_book_do_not_import_it(light: dict) -> None:
    for name, told in (
        ("data_path", "cat.jpg"),
        ("Image", "PIL.Image"),
        ("plt", "matplotlib.pyplot"),
    ):
        value, heavy = light[name]
        assert value == told and "d2l.torch" not in heavy


def test_saved_names_are_their_modules(full: dict) -> None:
    assert full["apply"] and full["from import"] and full["explore"]
    assert full["before"] is False


def test_the_books_names_are_the_books(full: dict) -> None:
    assert full["accuracy"]
    assert full["missing"] == []
    assert full["other"] == []


def test_every_listed_name_is_there(full: dict) -> None:
    assert full["broken"] == {}


def test_tab_completes_ours_and_the_books(full: dict) -> None:
    assert full["tab"] == ["apply", "accuracy"]
    assert [name.rstrip("(") for name in full["python's tab"]] == [
        "d2l.apply",
        "d2l.accuracy",
    ]


def test_no_module_hides_a_function() -> None:
    assert not d2lext._MODULES & d2lext._book().keys()
    assert not d2lext._MODULES & d2lext._NAMES.keys()


def test_the_package_hides_no_name_of_the_book(light: dict) -> None:
    """Its own imports are found before `__getattr__` is asked."""
    assert not set(light["own"]) & (d2lext._book().keys() | d2lext._NAMES.keys())


def test_no_lesson_saves_a_name_written_by_hand() -> None:
    assert dict(d2lext._NAMES) | NAMES == d2lext._NAMES
