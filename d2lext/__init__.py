"""The course's helpers under the book's name: `import d2lext as d2l`.

Every function saved in a lesson is here, and so is every name of `d2l.torch` that the
lessons do not mend: those that it imports itself always, those that it defines if the
package d2l is installed. All of it is looked up when first used, so that importing this
package costs nothing, and `d2l.torch` (about ten seconds) is paid for only by those
who use a name that it alone defines.
"""

import functools
import importlib.util
import pkgutil
import re
from os import environ as _environ
from pathlib import Path

from d2lext._saved import NAMES

# Before torch starts its threads, which wait for each other in a loop, 300,000 times by
# default. Where another program keeps a core busy, that made training ten times slower
# than going to sleep at once; but waking up costs a third of the speed otherwise. A
# short wait has little of either. (Read by GNU's OpenMP, which torch has on Linux.)
_environ.setdefault("GOMP_SPINCOUNT", "3000")

_NAMES = {
    **NAMES,
    "bench": "widgets.workbench",
    "explore": "widgets.sliders",
    "data_path": "images",
    "check": "course.exercises",
    "language": "course.language",
}
_MODULES = {p.stem for p in Path(__file__).parent.glob("[a-z]*.py")}
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
    source = Path(spec.submodule_search_locations[0], "torch.py")
    pattern = r"(?m)^(?:(?:def|class) ([a-zA-Z]\w*)|([a-zA-Z]\w*) = )"
    found = re.findall(pattern, source.read_text(encoding="utf-8"))
    return frozenset(a or b for a, b in found)


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
            "`pip install --no-deps d2l==1.0.3`, and start the kernel again"
        )
    try:
        globals()[name] = value = pkgutil.resolve_name(place)
    except ModuleNotFoundError as error:
        if not place.startswith("d2l.torch:"):
            raise
        # `pip install --no-deps d2l` brings none of them.
        words = f"d2l.torch needs {error.name}: pip install {error.name}"
        raise ModuleNotFoundError(words, name=error.name) from error
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_NAMES, *_MODULES, *_IMPORTS, *_book()})
