"""Write a setting as a line of code that evaluates to it."""

import ast
import enum
import functools
import importlib
import inspect
import sys
import types
from collections.abc import Callable

import numpy as np


def call(function: Callable, values: dict[str, object]) -> str:
    """The source of a call of `function` with these values."""
    args: tuple = ()
    if isinstance(function, functools.partial):
        args, values = function.args, {**function.keywords, **values}
        function = function.func
    words = [*map(word, args), *(f"{k}={word(v)}" for k, v in values.items())]
    return f"{name(function)}({', '.join(words)})"


def word(value: object) -> str:
    """A value's repr; for enums, functions, classes and your own objects, a name."""
    if type(value) in (list, tuple):
        words = ", ".join(map(word, value))
        comma = "," if isinstance(value, tuple) and len(value) == 1 else ""
        return f"[{words}]" if isinstance(value, list) else f"({words}{comma})"
    if type(value) is dict:
        words = ", ".join(f"{word(key)}: {word(v)}" for key, v in value.items())
        return f"{{{words}}}"
    if isinstance(value, np.generic):
        return repr(value.item())
    if isinstance(value, enum.Enum):
        return f"{name(type(value))}.{value.name}"
    if isinstance(value, functools.partial):
        inner = call(value, {})
        at = len(name(value.func))
        comma = "" if inner[at + 1] == ")" else ", "
        return f"functools.partial({inner[:at]}{comma}{inner[at + 1 :]}"
    plain = isinstance(value, str | int | float | bytes | None)
    return repr(value) if plain else name(value)


def name(thing: object) -> str:
    """A lesson's name for a function, class or object; else its shortest path.

    Raises TypeError for an object without either, unless its repr evaluates to it.
    """
    if isinstance(thing, functools.partial):
        return name(thing.func)
    here = {k: v for k, v in vars(sys.modules["__main__"]).items() if k[0] != "_"}
    for own, value in here.items():
        if value is thing:
            return own
    path = getattr(thing, "__qualname__", None)
    if path is None:
        if type(thing).__module__ == "builtins" or repr(thing).startswith("torch."):
            return repr(thing)
        raise TypeError(
            f"the {type(thing).__name__} has no name, which the line of code needs; "
            "give it one in a cell, such as mine = ..., and pass mine"
        )
    if path.endswith("<lambda>"):
        return _lambda(thing)
    if inspect.ismethod(thing):
        return f"{name(thing.__self__)}.{thing.__name__}"
    if thing.__module__ in ("__main__", "builtins") or "<locals>" in path:
        return path.rpartition("<locals>.")[2]
    for own, value in here.items():  # such as v2
        if isinstance(value, types.ModuleType) and vars(value).get(path) is thing:
            return f"{own}.{path}"
    parts = thing.__module__.split(".")
    for end in range(1, len(parts)):
        module = ".".join(parts[:end])
        if getattr(importlib.import_module(module), path, None) is thing:
            return f"{module}.{path}"
    return f"{thing.__module__}.{path}"


def _lambda(function: Callable) -> str:
    """The source of a lambda, found by its line and its arguments."""
    try:
        tree = ast.parse("".join(inspect.findsource(function)[0]))
    except (OSError, SyntaxError):
        return "..."
    code = function.__code__
    found = [
        node
        for node in ast.walk(tree)
        if isinstance(node, ast.Lambda) and node.lineno == code.co_firstlineno
    ]
    places = {(line, column) for line, _, column, _ in code.co_positions()}
    same = [n for n in found if (n.body.lineno, n.body.col_offset) in places]
    return f"({ast.unparse((same or found)[0])})" if found else "..."
