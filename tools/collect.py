"""Collect the `#@save` cells of the lessons into the modules of d2lext.

`python -m tools.collect` writes `d2lext/<topic>.py` from every
`notebooks/NN_<topic>.ipynb` that saves something; `--check` writes nothing and fails
when a module and its lesson disagree. The lesson is the source; do not edit a
collected module.
"""

import argparse
import ast
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parent.parent
SAVE = "#@save"
# Used under their module's name, since they carry torchvision's names.
NOT_LIFTED = {"batch"}
HEADER = '"""Collected from notebooks/'
IMPORTS = ast.Import | ast.ImportFrom
# The remedy for each error that ruff may find in a module.
WAYS = {
    "F403": "name what you import",
    "F811": "rename one",
    "F821": f"save it too, or import it in a cell under {SAVE}",
}


class CollectError(Exception):
    """A lesson cannot be collected; the message says where and what to do."""

    def __str__(self) -> str:
        return ": ".join(self.args)


class Cell(NamedTuple):
    """One saved cell; `body` is its source without imports, comments kept."""

    where: str
    slug: str
    imports: list[str]
    names: list[str]
    body: str


def _names(node: ast.stmt) -> list[str]:
    """The names that a definition or an assignment binds."""
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        return [node.name]
    if not isinstance(node, ast.Assign | ast.AnnAssign):
        return []
    targets = node.targets if isinstance(node, ast.Assign) else [node.target]
    names = (n for t in targets for n in ast.walk(t) if isinstance(n, ast.Name))
    return [n.id for n in names if isinstance(n.ctx, ast.Store)]


def _read(where: str, slug: str, source: str) -> Cell:
    lines, imports, names, last = source.splitlines(), [], [], 0
    try:
        tree = ast.parse(source)
        # Only this finds some errors, such as `await` outside a function.
        compile(source, where, "exec", dont_inherit=True)
    except SyntaxError as error:
        line = lines[(error.lineno or 1) - 1].strip()
        words = f"line {error.lineno}: {error.msg}: {line!r}"
        if line.startswith(("%", "!", "?")):
            words = f"{line!r} is a Jupyter command; a saved cell holds plain Python"
        raise CollectError(where, words) from None
    if not tree.body:
        raise CollectError(where, f"nothing below {SAVE}; add code or drop the mark")
    for node in tree.body:
        here, defined = f"{where}, line {node.lineno}", _names(node)
        if node.lineno == last:
            raise CollectError(here, "two statements on one line; split them")
        last = node.end_lineno
        if isinstance(node, IMPORTS):
            imports.append(ast.unparse(node))
            lines[node.lineno - 1 : last] = [""] * (last - node.lineno + 1)
        elif not defined:
            words = "a saved cell holds imports, definitions and assignments to names"
            other = f"not {ast.unparse(node)!r}; move it to a cell of its own"
            raise CollectError(here, f"{words}, {other}")
        names += defined
    return Cell(where, slug, imports, names, "\n".join(lines[1:]).strip("\n"))


def saved_cells(path: Path) -> list[Cell]:
    """The cells of a notebook that begin with `#@save`, checked one by one."""
    try:
        cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    except (ValueError, KeyError, TypeError) as error:
        raise CollectError(path.name, f"not a notebook ({error})") from None
    found = []
    for number, cell in enumerate(c for c in cells if c["cell_type"] == "code"):
        source, slug = "".join(cell["source"]), cell.get("id", str(number))
        where = f"{path.name}, code cell {number} ({slug})"
        if source.partition("\n")[0] == SAVE:
            found.append(_read(where, slug, source))
        elif near := re.search(r"(?mi)^.*#[ \t]*@[ \t]*save\b.*", source):
            words = f"write {SAVE!r} exactly so, as the first line and alone"
            raise CollectError(where, f"{words}, not {near[0]!r}")
    return found


def _ruff(source: str, *command: str) -> str:
    program = [sys.executable, "-m", "ruff", *command, "--stdin-filename=m.py", "-"]
    done = subprocess.run(
        program, input=source, capture_output=True, encoding="utf-8", cwd=ROOT
    )
    if done.returncode:
        raise CollectError(f"ruff {command[0]} failed", done.stderr.strip())
    return done.stdout


def _sorted(source: str) -> str:
    return _ruff(source, "check", "-q", "--select=I", "--fix-only")


def _module(path: Path, cells: list[Cell]) -> str:
    """The text of a lesson's module; ruff finds free and redefined names in it."""
    imports = dict.fromkeys(line for cell in cells for line in cell.imports)
    marks = {f"# {path.name}: {cell.slug}": cell for cell in cells if cell.body}
    text = f"{HEADER}{path.name}, where it is explained.\n\nEdit the lesson, then run "
    # Keep the lines of the lesson, which is read more often than edited.
    text += '`python -m tools.collect`.\n"""\n\n# fmt: off\n'
    text += "\n".join(imports) + "\n\n\n"
    blocks = (f"{mark}\n{cell.body}\n" for mark, cell in marks.items())
    text = _sorted(text + "\n\n".join(blocks))
    options = [f"--select={','.join(WAYS)}", "--ignore-noqa", "--output-format=json"]
    for found in json.loads(_ruff(text, "check", "--exit-zero", *options)):
        above = text.splitlines()[: found["location"]["row"]][::-1]
        where = next((marks[line].where for line in above if line in marks), path.name)
        words = f"{found['message']}; {WAYS[found['code']]}"
        raise CollectError(where, words)
    return text


def collected(notebooks: Path) -> dict[str, str]:
    """The text of each collected module, by its file name."""
    if (
        not notebooks.is_dir()
    ):  # without lessons, every collected module would be deleted
        raise CollectError(f"there is no folder {str(notebooks)!r} of lessons")
    modules, lifted = {}, {}
    for path in sorted(notebooks.glob("*.ipynb")):
        if not (cells := saved_cells(path)):  # also a learner's own, whatever its name
            continue
        if not (match := re.fullmatch(r"\d\d_([a-z][a-z0-9_]*)\.ipynb", path.name)):
            words = "a lesson is named NN_topic.ipynb, in small letters"
            raise CollectError(path.name, words)
        topic = match[1]
        if f"{topic}.py" in modules:
            raise CollectError(path.name, f"{topic}.py has a lesson already; rename it")
        saved = {} if topic in NOT_LIFTED else lifted
        for cell in cells:
            for name in cell.names:
                if name in saved:
                    words = f"{name!r} is saved already in {saved[name]}; rename one"
                    raise CollectError(cell.where, f"{words}, or import the first")
                saved[name] = cell.where
        modules[f"{topic}.py"] = _module(path, cells)
    for name in lifted:
        if f"{name}.py" in modules:
            words = f"{name!r} is also a lesson's module; rename the function"
            raise CollectError(lifted[name], words)
    return modules


def main(argv: list[str] | None = None, root: Path = ROOT) -> int:
    parser = argparse.ArgumentParser("python -m tools.collect", description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing")
    check, package = parser.parse_args(argv).check, root / "d2lext"
    there = {p.name: p.read_text(encoding="utf-8") for p in package.glob("*.py")}
    ours = {name for name, text in there.items() if text.startswith(HEADER)}
    try:
        wanted = collected(root / "notebooks")
        for name in wanted.keys() & there.keys() - ours:
            raise CollectError(name, "is written by hand; rename its lesson")
    except CollectError as error:
        print(f"collect: {error}", file=sys.stderr)
        return 1
    drift = sorted(n for n in ours | wanted.keys() if wanted.get(n) != there.get(n))
    for name in drift:
        if check:
            state = "differs from its lesson" if name in wanted else "is left over"
            words = f"d2lext/{name} {state}: run `python -m tools.collect`"
            print(f"collect: {words}", file=sys.stderr)
        elif name in wanted:
            (package / name).write_text(wanted[name], encoding="utf-8", newline="\n")
            print(f"collect: wrote d2lext/{name}")
        else:
            (package / name).unlink()
            print(f"collect: deleted d2lext/{name}")
    return int(check and bool(drift))


if __name__ == "__main__":
    sys.exit(main())
