"""The course's helpers under the book's name: `import d2lext as d2l`.

Every function that a lesson saves is here. So is every other name of `d2l.torch`: what
that module imports is always here, what it defines only if the package d2l is
installed. Each name is looked up at its first use. Importing this package therefore
costs nothing, and `d2l.torch` is imported (about ten seconds) only for a name that it
alone defines.
"""

import functools
import importlib.util
import pkgutil
import re
from os import environ as _environ
from pathlib import Path

# Set before torch starts its threads, which by default spin 300,000 times before they
# sleep. If another program keeps a core busy, that makes training ten times slower than
# sleeping at once, but on a quiet machine, sleeping at once loses a third of the speed.
# A short spin loses little in either case. (GNU OpenMP, torch's on Linux, reads this.)
_environ.setdefault("GOMP_SPINCOUNT", "3000")


def _defined(source: Path) -> list[str]:
    """The names that a module defines, read without running it."""
    pattern = r"(?m)^(?:(?:def|class) ([a-zA-Z]\w*)|([a-zA-Z]\w*) = )"
    found = re.findall(pattern, source.read_text(encoding="utf-8"))
    return [function or value for function, value in found]


def _from_lesson(source: Path) -> bool:
    """Whether a module is collected from a lesson, and not of torchvision's names."""
    with source.open(encoding="utf-8") as lines:
        collected = next(lines, "").startswith('"""Collected from')
    return collected and source.stem != "batch"


_MODULES = {m.name for m in pkgutil.iter_modules(__path__) if m.name[0] != "_"}
_LESSONS = filter(_from_lesson, Path(__file__).parent.glob("[a-z]*.py"))
_NAMES = {
    **{name: p.stem for p in _LESSONS for name in _defined(p)},
    "bench": "widgets.workbench",
    "explore": "widgets.sliders",
    "data_path": "images",
    "check": "course.exercises",
    "language": "course.language",
}
# What d2l.torch imports, under its names there.
_IMPORTS = {
    "F": "torch.nn.functional",
    "Image": "PIL.Image",
    "backend_inline": "matplotlib_inline.backend_inline",
    "data": "torch.utils.data",
    "defaultdict": "collections:defaultdict",
    "display": "IPython.display",
    "distance_matrix": "scipy.spatial:distance_matrix",
    "nn": "torch.nn",
    "np": "numpy",
    "pd": "pandas",
    "plt": "matplotlib.pyplot",
    "transforms": "torchvision.transforms",
}
_PLAIN = "collections hashlib inspect math os random re requests shutil sys tarfile"
_IMPORTS |= {n: n for n in f"{_PLAIN} time torch torchvision zipfile".split(" ")}


@functools.cache
def _book() -> frozenset[str]:
    """The names that `d2l.torch` defines, read from its source without running it."""
    spec = importlib.util.find_spec("d2l")
    if spec is None:
        return frozenset()
    return frozenset(_defined(Path(spec.submodule_search_locations[0], "torch.py")))


def __getattr__(name: str) -> object:
    if name in _NAMES:
        place = f"d2lext.{_NAMES[name]}:{name}"
    elif name in _MODULES:
        place = f"d2lext.{name}"
    elif name in _IMPORTS:
        place = _IMPORTS[name]
    elif name in _book():
        place = f"d2l.torch:{name}"
    elif _book() or name[0] == "_":
        raise AttributeError(f"neither the course (d2lext) nor d2l.torch has {name!r}")
    else:
        raise AttributeError(
            f"the course (d2lext) has no {name!r}. If the book's d2l.torch has it: "
            "`pip install --no-deps d2l==1.0.3`, and restart the kernel"
        )
    try:
        globals()[name] = value = pkgutil.resolve_name(place)
    except ModuleNotFoundError as error:
        if not place.startswith("d2l.torch:"):
            raise
        # `pip install --no-deps d2l` installs none of its dependencies.
        words = f"d2l.torch needs {error.name}: pip install {error.name}"
        raise ModuleNotFoundError(words, name=error.name) from error
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_NAMES, *_MODULES, *_IMPORTS, *_book()})
