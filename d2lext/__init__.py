"""The course's helpers under the book's name: `import d2lext as d2l`.

Every function saved in a lesson is here, and so is every name of `d2l.torch` that the
lessons do not mend. All of it is looked up when first used, so that importing this
package costs nothing, and `d2l.torch` (about ten seconds) is paid for only by those
who use a name that it alone defines.
"""

import ast
import functools
import importlib
import importlib.util
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
    "explore": "sliders",
    "data_path": "images",
    "check": "course.exercises",
}
_MODULES = {p.stem for p in Path(__file__).parent.glob("[a-z]*.py")}


@functools.cache
def _book() -> dict[str, tuple[str, str | None] | None]:
    """The names of `d2l.torch`, read from its source without running it.

    An imported name maps to (module, attribute), a defined one to None.
    """
    spec = importlib.util.find_spec("d2l")
    if spec is None:
        return {}
    source = Path(spec.submodule_search_locations[0], "torch.py")
    names: dict[str, tuple[str, str | None] | None] = {}
    for node in ast.parse(source.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.Import):
            for a in node.names:
                names[a.asname or a.name] = (a.name, None)
        elif isinstance(node, ast.ImportFrom):
            for a in node.names:
                names[a.asname or a.name] = (node.module, a.name)
        elif isinstance(node, ast.FunctionDef | ast.ClassDef):
            names[node.name] = None
        elif isinstance(node, ast.Assign):
            stored = (n for t in node.targets for n in ast.walk(t))
            names |= {n.id: None for n in stored if isinstance(n, ast.Name)}
    return {name: origin for name, origin in names.items() if name[0] != "_"}


def _import(module: str, attribute: str | None) -> object:
    found = importlib.import_module(module)
    if attribute is None:
        return found
    if not hasattr(found, attribute):  # `from PIL import Image` names a submodule
        return importlib.import_module(f"{module}.{attribute}")
    return getattr(found, attribute)


def __getattr__(name: str) -> object:
    if name in _NAMES:
        value = _import(f"d2lext.{_NAMES[name]}", name)
    elif name in _MODULES:
        value = importlib.import_module(f"d2lext.{name}")
    elif name[0] != "_" and name in _book():
        value = _import(*(_book()[name] or ("d2l.torch", name)))
    else:
        raise AttributeError(f"neither the course (d2lext) nor d2l.torch has {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_NAMES, *_MODULES, *_book()})
