"""Collect the `#@save` cells of the lessons into the modules of this package.

`python -m tools.collect` writes `d2lext/<topic>.py` from every
`notebooks/NN_<topic>.ipynb` that saves something; `--check` writes nothing and fails
when a module and its lesson disagree. The lesson is the source: nobody edits a
collected module.
"""

import argparse
import ast
import builtins
import json
import re
import subprocess
import symtable
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SAVE = "#@save"
INDEX = "_saved.py"
# Used under their module's name, since they carry torchvision's names.
NOT_LIFTED = {"batch"}
HEADER = '"""Collected from notebooks/'
MODULE_NAMES = {"__file__", "__name__", "__doc__"}


class CollectError(Exception):
    """A lesson cannot be collected; the message names the notebook and the cell."""


@dataclass
class Cell:
    """One saved cell: where it stands, its source below `#@save`, its syntax tree."""

    where: str
    slug: str
    source: str
    tree: ast.Module

    def imports(self) -> list[str]:
        return [ast.unparse(n) for n in self.tree.body if _is_import(n)]

    def definitions(self) -> list[str]:
        return [name for node in self.tree.body for name in _names_defined(node)]

    def body(self) -> str:
        """The source without its imports, comments kept."""
        lines = self.source.splitlines()
        for node in filter(_is_import, self.tree.body):
            for i in range(node.lineno - 1, node.end_lineno):
                lines[i] = ""
        return "\n".join(lines).strip("\n")


@dataclass
class Lesson:
    """What one notebook saves."""

    path: Path
    topic: str
    cells: list[Cell] = field(default_factory=list)

    def definitions(self) -> dict[str, str]:
        """Name -> where it is defined."""
        found: dict[str, str] = {}
        for cell in self.cells:
            for name in cell.definitions():
                _refuse_twice(name, found.get(name), cell.where)
                found[name] = cell.where
        return found


def _is_import(node: ast.stmt) -> bool:
    return isinstance(node, ast.Import | ast.ImportFrom)


def _names_defined(node: ast.stmt) -> list[str]:
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        return [node.name]
    if isinstance(node, ast.Assign | ast.AnnAssign):
        targets = node.targets if isinstance(node, ast.Assign) else [node.target]
        names = (n for t in targets for n in ast.walk(t) if isinstance(n, ast.Name))
        return [n.id for n in names if isinstance(n.ctx, ast.Store)]
    return []


def _refuse_twice(name: str, first: str | None, second: str) -> None:
    if first:
        raise CollectError(
            f"{second}: {name!r} is saved already in {first}; "
            "rename one, or import the first instead of defining it again"
        )


def _parse(source: str, where: str) -> ast.Module:
    try:
        tree = ast.parse(source)
        # Some errors, such as `await` outside a function, show only here.
        compile(tree, where, "exec", dont_inherit=True)
    except SyntaxError as error:
        line = source.splitlines()[(error.lineno or 1) - 1].strip()
        if line[:1] in tuple("%!?"):
            raise CollectError(
                f"{where}: {line!r} is a Jupyter command, not Python; "
                "a saved cell holds plain Python only"
            ) from None
        # One line more, since the parsed source starts below `#@save`.
        raise CollectError(
            f"{where}, line {(error.lineno or 1) + 1}: {error.msg}: {line!r}"
        ) from None
    if not tree.body:
        raise CollectError(f"{where}: nothing below {SAVE}; add code or drop the mark")
    last = 0
    for node in tree.body:
        if not (_is_import(node) or _names_defined(node)):
            raise CollectError(
                f"{where}, line {node.lineno + 1}: a saved cell holds imports, "
                f"definitions and assignments to names, not {ast.unparse(node)!r}; "
                "move it to a cell of its own"
            )
        if node.lineno == last:
            raise CollectError(
                f"{where}, line {last + 1}: two statements on one line; split them"
            )
        last = node.end_lineno
    return tree


def _saved_cells(path: Path) -> Iterator[Cell]:
    try:
        cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    except (ValueError, KeyError, TypeError) as error:
        raise CollectError(f"{path.name}: not a notebook ({error})") from None
    code = [c for c in cells if c["cell_type"] == "code"]
    for number, cell in enumerate(code):
        source = "".join(cell["source"])
        first, _, rest = source.partition("\n")
        slug = cell.get("id", str(number))
        where = f"{path.name}, code cell {number} ({slug})"
        if first == SAVE:
            yield Cell(where, slug, rest, _parse(rest, where))
        elif near := re.search(r"(?mi)^.*#[ \t]*@[ \t]*save\b.*", source):
            raise CollectError(
                f"{where}: write {SAVE!r} exactly so, as the first line and alone, "
                f"not {near[0]!r}"
            )


def _topic(path: Path) -> str:
    match = re.fullmatch(r"\d\d_([a-z][a-z0-9_]*)\.ipynb", path.name)
    if not match:
        raise CollectError(
            f"{path.name}: a lesson is named NN_topic.ipynb, in small letters"
        )
    return match[1]


def _free_names(source: str) -> set[str]:
    """Names that the module reads and neither defines, imports nor gets from Python."""

    def read(table: symtable.SymbolTable) -> set[str]:
        symbols = table.get_symbols()
        names = {s.get_name() for s in symbols if s.is_referenced() and s.is_global()}
        return names.union(*map(read, table.get_children()))

    body = ast.parse(source).body
    imported = (a for node in body if _is_import(node) for a in node.names)
    bound = {a.asname or a.name.partition(".")[0] for a in imported}
    bound.update(name for node in body for name in _names_defined(node))
    # Python 3.12 lists the variables of a comprehension among the module's own names,
    # so what is bound comes from the tree.
    top = symtable.symtable(source, "collected", "exec")
    names = {s.get_name() for s in top.get_symbols() if not s.is_assigned()}
    names.update(*map(read, top.get_children()))
    return names - bound - set(dir(builtins)) - MODULE_NAMES


def _check_free_names(lesson: Lesson) -> None:
    imports = "\n".join(line for cell in lesson.cells for line in cell.imports())
    bodies = [cell.body() for cell in lesson.cells]
    free = _free_names("\n".join([imports, *bodies]))
    for cell in lesson.cells:
        for name in sorted(free & _free_names(cell.source)):
            raise CollectError(
                f"{cell.where}: {name!r} is neither defined nor imported in a saved "
                f"cell of this lesson; save it too, or import it under {SAVE}"
            )


def _ruff(source: str) -> str:
    """Sort the imports and format, as the project's settings say."""
    for command in (
        ["check", "--quiet", "--select", "I", "--fix-only"],
        ["format", "--quiet"],
    ):
        done = subprocess.run(
            [sys.executable, "-m", "ruff", *command, "--stdin-filename", "m.py", "-"],
            input=source,
            capture_output=True,
            text=True,
            encoding="utf-8",
            cwd=ROOT,
        )
        if done.returncode:
            raise CollectError(f"ruff {command[0]} failed: {done.stderr.strip()}")
        source = done.stdout
    return source


def _module(lesson: Lesson) -> str:
    names = sorted(n for n in lesson.definitions() if not n.startswith("_"))
    imports = dict.fromkeys(line for cell in lesson.cells for line in cell.imports())
    blocks = [
        f"# {lesson.path.name}: {cell.slug}\n{cell.body()}"
        for cell in lesson.cells
        if cell.body()
    ]
    return _ruff(
        f"{HEADER}{lesson.path.name}, where it is explained.\n\n"
        'Edit the lesson, then run `python -m tools.collect`.\n"""\n\n'
        + "\n".join(imports)
        + f"\n\n__all__ = {names!r}\n\n"
        + "\n\n\n".join(blocks)
        + "\n"
    )


def read_lessons(notebooks: Path) -> list[Lesson]:
    """Read every lesson that saves something, and check what they save together."""
    if not notebooks.is_dir():
        # An empty list of lessons would delete every collected module.
        raise CollectError(f"there is no folder {str(notebooks)!r} of lessons")
    lessons: list[Lesson] = []
    lifted: dict[str, str] = {}
    for path in sorted(notebooks.glob("*.ipynb")):
        cells = list(_saved_cells(path))
        if not cells:  # also a learner's own notebook, whatever its name
            continue
        lesson = Lesson(path, _topic(path), cells)
        _check_free_names(lesson)
        for other in lessons:
            if other.topic == lesson.topic:
                raise CollectError(
                    f"{path.name} and {other.path.name} would both be collected "
                    f"into {lesson.topic}.py; rename one"
                )
        names = lesson.definitions()
        if lesson.topic not in NOT_LIFTED:
            for name, where in names.items():
                _refuse_twice(name, lifted.get(name), where)
            lifted |= names
        lessons.append(lesson)
    for lesson in lessons:
        if lesson.topic in lifted:
            raise CollectError(
                f"{lifted[lesson.topic]}: {lesson.topic!r} is also the module of "
                f"{lesson.path.name}; rename the function"
            )
    return lessons


def collected(notebooks: Path) -> dict[str, str]:
    """The collected modules as they should be, file name -> text."""
    lessons = read_lessons(notebooks)
    modules = {f"{lesson.topic}.py": _module(lesson) for lesson in lessons}
    index = {
        name: lesson.topic
        for lesson in lessons
        if lesson.topic not in NOT_LIFTED
        for name in lesson.definitions()
        if not name.startswith("_")
    }
    modules[INDEX] = _ruff(
        f'{HEADER}: which module holds each saved name."""\n\n'
        f"NAMES = {dict(sorted(index.items()))!r}\n"
    )
    return modules


def differences(notebooks: Path, package: Path) -> dict[str, str | None]:
    """What collecting would write (text) or delete (None), by file name."""
    wanted = collected(notebooks)
    there = {p.name: p.read_text(encoding="utf-8") for p in package.glob("*.py")}
    ours = {name for name, text in there.items() if text.startswith(HEADER)}
    for name in wanted.keys() & there.keys() - ours:
        raise CollectError(
            f"a lesson saves into {name}, which is written by hand; rename the lesson"
        )
    changed: dict[str, str | None] = {
        name: text for name, text in wanted.items() if there.get(name) != text
    }
    return changed | dict.fromkeys(ours - wanted.keys())


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m tools.collect", description=__doc__
    )
    parser.add_argument(
        "--check", action="store_true", help="write nothing, fail on drift"
    )
    parser.add_argument("--notebooks", type=Path, default=ROOT / "notebooks")
    parser.add_argument("--package", type=Path, default=ROOT / "d2lext")
    args = parser.parse_args(argv)
    try:
        changed = differences(args.notebooks, args.package)
    except CollectError as error:
        print(f"collect: {error}", file=sys.stderr)
        return 1
    if args.check:
        for name in sorted(changed):
            state = (
                "is left over" if changed[name] is None else "differs from its lesson"
            )
            print(f"collect: d2lext/{name} {state}", file=sys.stderr)
        if changed:
            print("collect: run `python -m tools.collect`", file=sys.stderr)
        return int(bool(changed))
    for name, text in sorted(changed.items()):
        target = args.package / name
        if text is None:
            target.unlink()
        else:
            target.write_text(text, encoding="utf-8", newline="\n")
        print(f"collect: {'deleted' if text is None else 'wrote'} d2lext/{name}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
