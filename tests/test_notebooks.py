"""What every stored lesson keeps to, rule by rule; and that each rule can fail.

A rule takes a lesson and yields what is wrong with it, in words.
"""

import ast
import functools
import itertools
import os
import re
import shutil
import symtable
from collections.abc import Callable, Iterator
from pathlib import Path

import nbformat
import pytest
from IPython.core.inputtransformer2 import TransformerManager
from nbformat import NotebookNode

import d2lext
from tests.lessons import LESSONS
from tools import address
from tools.collect import SAVE

MAX_LINES, MAX_SAVED_LINES = 20, 35
MAX_CELLS_IN_A_ROW = 4
MAX_IGNORED = 4
MAX_BYTES = 1_500_000
# GitHub refuses widgets' state; SVG carries dates, and shows only where it is trusted.
NEVER_STORED = ("application/vnd.jupyter.widget", "image/svg+xml")
NEVER_WRITTEN = [  # where, and what
    # nbval does not know that `;` hides the value.
    ("code", r";\s*\Z"),
    # In a formula two backslashes break the line, and the command is plain text.
    ("markdown", r"\$[^$\n]*\\\\[a-z][^$\n]*\$"),
    ("output", "<svg"),
    ("output", r" at 0x[0-9a-f]+>"),  # an object's address
    # A folder of somebody's machine, not the path part of an address.
    ("", r"(?<![\w.:/~-])/(home|Users|root|tmp|work|mnt|opt|usr|var|etc|private)/"),
    ("", r"(?<![\w.:/~-])/Volumes/|\b[A-Za-z]:\\"),
]
TRAINS = re.compile(
    r"(?<!def )\b(train(_ch13|_with_data_aug|_batch_ch13|_epochs)?|backward)\("
)
COLLIDE = ("07", "09")  # They name a second net, generator or batch as the first.


class Lesson:
    def __init__(self, path: Path):
        self.path = path
        self.nb = nbformat.read(path, as_version=nbformat.NO_CONVERT)

    @property
    def code(self) -> list[NotebookNode]:
        return [cell for cell in self.nb.cells if cell.cell_type == "code"]

    def outputs(self) -> list[tuple[NotebookNode, NotebookNode]]:
        return [(cell, output) for cell in self.code for output in cell.outputs]


Found = Iterator[str]


def python(cell: NotebookNode) -> str:
    """The source of a code cell; Jupyter's commands become calls."""
    return TransformerManager().transform_cell(cell.source)


def tree(cell: NotebookNode) -> ast.Module:
    return ast.parse(python(cell))


def tags(cell: NotebookNode) -> set[str]:
    return {*cell.metadata.get("tags", [])}


def valid(lesson: Lesson) -> Found:
    try:
        nbformat.validate(lesson.nb)
    except nbformat.ValidationError as error:
        yield str(error).splitlines()[0]


def executed_in_order(lesson: Lesson) -> Found:
    """Without a count nbval would compare nothing."""
    for i, cell in enumerate(lesson.code, 1):
        if cell.execution_count != i:
            yield f"{cell.id}: executed as {cell.execution_count}, is code cell {i}"


def plain_outputs(lesson: Lesson) -> Found:
    if "widgets" in lesson.nb.metadata:
        yield "the metadata hold widgets"
    for cell, output in lesson.outputs():
        if output.output_type == "error":
            yield f"{cell.id}: {output.ename}"
        for kind in output.get("data", {}):
            if kind.startswith(NEVER_STORED):
                yield f"{cell.id}: holds {kind}"


def slugs(lesson: Lesson) -> Found:
    ids = [cell.get("id", "") for cell in lesson.nb.cells]
    # The second is what Jupyter makes up for a new cell.
    slug, made_up = r"[a-z0-9]+(-[a-z0-9]+)*", r"[0-9a-f]{8}(-[0-9a-f]+)*"
    for i in ids:
        if not re.fullmatch(slug, i) or re.fullmatch(made_up, i) or ids.count(i) > 1:
            yield f"{i!r}: no slug, or there twice"


def prose_before_code(lesson: Lesson) -> Found:
    if lesson.nb.cells[0].cell_type != "markdown":
        yield "begins without a word"
    for kind, run in itertools.groupby(lesson.nb.cells, lambda cell: cell.cell_type):
        ids = [cell.get("id") for cell in run]
        if kind == "code" and len(ids) > MAX_CELLS_IN_A_ROW:
            yield f"{ids[0]} to {ids[-1]}: {len(ids)} code cells in a row"


def small_cells(lesson: Lesson) -> Found:
    for cell in lesson.code:
        lines = cell.source.splitlines()
        if len(lines) > (MAX_SAVED_LINES if lines[0] == SAVE else MAX_LINES):
            yield f"{cell.id}: {len(lines)} lines"


def d2lext_first(lesson: Lesson) -> Found:
    """In a cell of its own, before torch, since its OpenMP setting counts."""
    first, *others = lesson.code
    if first.source != address.first_cell(address.address()):
        yield f"{first.id}: not as `python -m tools.address` writes it"
    for cell in others:
        if "import d2lext as d2l" in map(ast.unparse, tree(cell).body):
            yield f"{cell.id}: imports d2lext again"


def never_written(lesson: Lesson) -> Found:
    texts = [(cell.cell_type, cell, cell.source) for cell in lesson.nb.cells]
    for cell, output in lesson.outputs():
        shown = {"text": output.get("text", "")} | output.get("data", {})
        texts += [("output", cell, shown[k]) for k in shown if k.startswith("text")]
    for (kind, cell, text), (where, what) in itertools.product(texts, NEVER_WRITTEN):
        if where in (kind, "") and (match := re.search(what, text)):
            yield f"{cell.id}: {match[0]!r}"


def _ignored(cell: NotebookNode) -> bool:
    words = r"#\s*(NBVAL_|PYTEST_VALIDATE_)(IGNORE_OUTPUT|SKIP)"
    ignoring = {"nbval-ignore-output", "nbval-skip"}
    return bool(ignoring & tags(cell) or re.search(words, cell.source))


def ignored_are_asserted(lesson: Lesson) -> Found:
    ignored = [cell.id for cell in lesson.code if _ignored(cell)]
    if len(ignored) > MAX_IGNORED:
        yield f"{len(ignored)} ignored cells: {', '.join(ignored)}"
    for cell, following in itertools.zip_longest(lesson.code, lesson.code[1:]):
        below = ast.walk(tree(following)) if following else ()
        if _ignored(cell) and not any(isinstance(n, ast.Assert) for n in below):
            yield f"{cell.id}: ignored, and no assert in the code cell below"


def no_slow_import(lesson: Lesson) -> Found:
    """Only names of ours, and what the book imports, come without `d2l.torch`."""
    light = d2lext._NAMES.keys() | d2lext._MODULES | d2lext._IMPORTS.keys()
    for cell in lesson.code:
        taken = re.findall(r"\bd2l(?:ext)?\.(\w+)", cell.source)
        taken += re.findall(r"(?m)^ *(?:from|import) ((?:d2l|tools)\b\S*)", cell.source)
        for names in re.findall("from d2lext import (.+)", cell.source):
            taken += names.split(", ")
        for name in {*taken} - light:
            yield f"{cell.id}: {name} is not the course's, nor quick to import"


def headings(lesson: Lesson) -> Found:
    lines = [line for cell in lesson.nb.cells for line in cell.source.splitlines()]
    for heading in {"## Summary", "## Exercises", "## Read on"} - {*lines}:
        yield f"no heading {heading!r}"
    number = lesson.path.name[:2].lstrip("0")
    if not re.match(rf"# {number} \S", lesson.nb.cells[0].source):
        yield f"does not begin with '# {number} ' and a title"


def small_file(lesson: Lesson) -> Found:
    if (size := lesson.path.stat().st_size) > MAX_BYTES:
        yield f"{size:,} bytes"


def parameters_where_it_trains(lesson: Lesson) -> Found:
    marked = [cell.id for cell in lesson.code if "parameters" in tags(cell)]
    wanted = int(any(TRAINS.search(cell.source) for cell in lesson.code))
    if len(marked) > 1 or len(marked) < wanted:
        yield f"{len(marked)} cells tagged parameters, wanted {wanted}"


def cells_run_alone(lesson: Lesson) -> Found:
    """A cell that runs again after all others finds no name bound to something else."""
    code = [cell for cell in lesson.code if not {"solution", "answer"} & tags(cell)]
    names = [_global_names(cell) for cell in code]
    assigned = set().union(*(assigned for _, assigned, _ in names))
    for at, (*_, used) in enumerate(names):
        for name in used & assigned:  # a name that is only imported stays what it is
            binding = [i for i, (a, b, _) in enumerate(names) if name in a | b]
            if min(binding) < at < max(binding) and lesson.path.name[:2] not in COLLIDE:
                yield f"{code[at].id}: {name}, bound again in {code[max(binding)].id}"


def _global_names(cell: NotebookNode) -> tuple[set[str], set[str], set[str]]:
    """The names that a cell imports, that it assigns, and takes from other cells."""
    top = symtable.symtable(python(cell), "cell", "exec")
    symbols = top.get_symbols()
    imported = {s.get_name() for s in symbols if s.is_imported()}
    assigned = {s.get_name() for s in symbols if s.is_assigned()}
    used, tables = {s.get_name() for s in symbols if s.is_referenced()}, [top]
    while tables:
        tables += (table := tables.pop()).get_children()
        if table is not top:
            used |= {s.get_name() for s in table.get_symbols() if s.is_global()}
    return imported, assigned, used - imported - assigned


Spoil = Callable[[Lesson], None]


def code(*sources: str | None, **fields: object) -> Spoil:
    """Add code cells at the end, with these fields in place of good ones."""

    def spoil(lesson: Lesson) -> None:
        for n, source in enumerate(sources, len(lesson.code) + 1):
            cell = nbformat.v4.new_code_cell(id=f"added-{n}", execution_count=n)
            lesson.nb.cells.append(cell)
            cell.update({"source": source} | fields)

    return spoil


def output(kind: str, *args: object, **fields: object) -> Spoil:
    return code("1", outputs=[nbformat.v4.new_output(kind, *args, **fields)])


def replaced(old: str, new: str) -> Spoil:
    def spoil(lesson: Lesson) -> None:
        for cell in lesson.nb.cells:
            cell.source = cell.source.replace(old, new)

    return spoil


# A rule is in force by standing here, with what lesson 1 would break it by.
BROKEN = [
    (valid, code(None)),
    (executed_in_order, code("1", execution_count=None)),
    (executed_in_order, code("1", execution_count=4)),
    (plain_outputs, output("error", ename="KeyError", evalue="", traceback=[])),
    (plain_outputs, lambda lesson: lesson.nb.metadata.update(widgets={"state": {}})),
    (plain_outputs, output("display_data", {f"{NEVER_STORED[0]}-view+json": {}})),
    (plain_outputs, output("display_data", {"image/svg+xml": "<svg/>"})),
    (never_written, output("display_data", {"text/html": "<div><svg></svg></div>"})),
    (never_written, output("display_data", {"text/plain": "<Legend at 0x7f00ff>"})),
    (slugs, code("1", id="Save")),
    (slugs, code("1", id="title")),
    (slugs, code("1", id="0a1b2c3d")),
    (slugs, code("1", id="0a1b2c3d-11ee-4f00-8a00-0123456789ab")),
    (prose_before_code, lambda lesson: lesson.nb.cells.insert(0, lesson.code[0])),
    (prose_before_code, code(*"12345")),
    (small_cells, code("x = 1\n" * 21)),
    (small_cells, code(f"{SAVE}\n" + "x = 1\n" * 35)),
    (d2lext_first, replaced("import d2lext as d2l", "import torch")),
    (d2lext_first, code("import d2lext as d2l")),
    (never_written, code("d2l.plt.plot([1]);\n")),
    (ignored_are_asserted, code("1", metadata={"tags": ["nbval-ignore-output"]})),
    (ignored_are_asserted, code("1", metadata={"tags": ["nbval-skip"]})),
    (ignored_are_asserted, code("# NBVAL_IGNORE_OUTPUT\n1", "# assert x\n1")),
    (ignored_are_asserted, code(*["# NBVAL_SKIP\nassert 1"] * 5, "assert 1")),
    (no_slow_import, code("%time d2l.plt\nd2l.nothing_such")),
    (no_slow_import, code("from d2lext import accuracy")),
    (no_slow_import, code("from d2l import torch as d2l")),
    (no_slow_import, code("import tools.experiments")),
    (never_written, code("x = 1  # see /tmp/x")),
    (never_written, code("r'C:\\cat.jpg'")),
    (never_written, output("stream", text="/usr/lib/torch.py:3: UserWarning\n")),
    (never_written, output("display_data", {"text/plain": "Path('/Users/somebody')"})),
    (never_written, replaced("## Summary", "$\\\\lambda$")),
    (headings, replaced("# 1 ", "# 9 ")),
    (headings, replaced("## Summary", "### Summary")),
    (small_file, lambda lesson: os.truncate(lesson.path, MAX_BYTES + 1)),
    (parameters_where_it_trains, code("x.backward()")),
    (parameters_where_it_trains, code("1", "2", metadata={"tags": ["parameters"]})),
    (cells_run_alone, code("x = 1", "def f():\n    return x", "x = 2")),
    (cells_run_alone, code("import x", "x", "x = 2")),
    (cells_run_alone, code("x = 1", "x", "import x")),
]
RULES = list(dict.fromkeys(rule for rule, _ in BROKEN))
stored = functools.cache(Lesson)


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
@pytest.mark.parametrize("path", LESSONS, ids=lambda path: path.stem)
def test_lesson(path: Path, rule: Callable[[Lesson], Found]) -> None:
    assert list(rule(stored(path))) == []


@pytest.mark.parametrize(("rule", "spoil"), BROKEN, ids=lambda x: x.__name__)
def test_rule_finds_what_is_broken(rule, spoil: Spoil, tmp_path: Path) -> None:
    lesson = Lesson(Path(shutil.copy(LESSONS[0], tmp_path)))
    spoil(lesson)
    assert list(rule(lesson)) != []
