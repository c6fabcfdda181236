"""What every stored lesson keeps to, rule by rule; and that each rule can fail.

A rule takes a lesson and yields what is wrong with it, in words.
"""

import ast
import functools
import itertools
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import unquote

import nbformat
import pytest
from IPython.core.inputtransformer2 import TransformerManager

import d2lext
from tools import address
from tools.collect import SAVE

ROOT = Path(__file__).resolve().parent.parent
LESSONS = sorted((ROOT / "notebooks").glob("*.ipynb"))
MAX_LINES, MAX_SAVED_LINES = 20, 35
MAX_CELLS_IN_A_ROW = 4
MAX_IGNORED = 4
MAX_BYTES = 1_500_000
# GitHub refuses widgets' state; SVG carries dates, and shows only where it is trusted.
NEVER_STORED = ("application/vnd.jupyter.widget", "image/svg+xml")
IMPORTED = "import d2lext as d2l"
TRAINS = {
    *("train_ch13", "train_with_data_aug", "train_batch_ch13", "train_epochs"),
    *("train", "backward"),
}
# A folder of somebody's machine, not the path part of an address.
MACHINE_PATH = re.compile(
    r"(?<![\w.:/~-])/(?:home|Users|root|tmp|work|mnt|opt|usr|var|etc|private|Volumes)/"
    r"|\b[A-Za-z]:\\"
)


class Lesson:
    def __init__(self, path: Path):
        self.path = path
        self.nb = nbformat.read(path, as_version=nbformat.NO_CONVERT)

    def cells(self, kind: str) -> list[nbformat.NotebookNode]:
        return [cell for cell in self.nb.cells if cell.cell_type == kind]

    @property
    def code(self) -> list[nbformat.NotebookNode]:
        return self.cells("code")

    def outputs(self) -> list[tuple[nbformat.NotebookNode, nbformat.NotebookNode]]:
        return [(cell, output) for cell in self.code for output in cell.outputs]


Found = Iterator[str]


def tree(cell: nbformat.NotebookNode) -> ast.Module:
    """The syntax tree of a code cell; Jupyter's commands count as calls."""
    return ast.parse(TransformerManager().transform_cell(cell.source))


def tags(cell: nbformat.NotebookNode) -> list[str]:
    return cell.metadata.get("tags", [])


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
        for kind, content in output.get("data", {}).items():
            svg = kind == "text/html" and "<svg" in content
            if svg or kind.startswith(NEVER_STORED):
                yield f"{cell.id}: holds {'SVG' if svg else kind}"
            if re.search(r" at 0x[0-9a-f]+>", str(content)):
                yield f"{cell.id}: holds the address of an object"


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
        if IMPORTED in map(ast.unparse, tree(cell).body):
            yield f"{cell.id}: imports d2lext again"


def no_semicolons(lesson: Lesson) -> Found:
    """nbval does not know that `;` hides the value."""
    for cell in lesson.code:
        if cell.source.rstrip().endswith(";"):
            yield f"{cell.id}: ends with ';'"


def _ignored(cell: nbformat.NotebookNode) -> bool:
    words = r"#\s*(NBVAL_|PYTEST_VALIDATE_)(IGNORE_OUTPUT|SKIP)"
    return bool(
        {"nbval-ignore-output", "nbval-skip"} & {*tags(cell)}
        or re.search(words, cell.source)
    )


def ignored_cells_are_asserted(lesson: Lesson) -> Found:
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
        for name in set(_taken_from_d2l(cell)) - light:
            yield f"{cell.id}: {name} is not the course's, nor quick to import"


def _taken_from_d2l(cell: nbformat.NotebookNode) -> Iterator[str]:
    """Attributes and imports of d2lext, and modules that a lesson may not import."""
    for node in ast.walk(tree(cell)):
        modules = []
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            if node.value.id in ("d2l", "d2lext"):
                yield node.attr
        elif isinstance(node, ast.ImportFrom):
            modules = [node.module]
            if node.module == "d2lext":
                yield from (a.name for a in node.names)
        elif isinstance(node, ast.Import):
            modules = [a.name for a in node.names]
        yield from (m for m in modules if m.partition(".")[0] in ("d2l", "tools"))


def no_machine_paths(lesson: Lesson) -> Found:
    texts = [(cell.get("id"), cell.source) for cell in lesson.nb.cells]
    for cell, output in lesson.outputs():
        shown = {"": output.get("text", "")} | output.get("data", {})
        texts += [(cell.id, shown.get(k, "")) for k in ("", "text/plain", "text/html")]
    for i, text in texts:
        if match := MACHINE_PATH.search(text):
            yield f"{i}: a path of one machine, {match[0]!r}"


def links_lead_somewhere(lesson: Lesson) -> Found:
    for cell in lesson.cells("markdown"):
        for target in re.findall(r"\]\(\s*<?([^)\s>]+)", cell.source):
            file = unquote(target.partition("#")[0])
            if (
                not re.match(r"[a-z]+:", file)
                and not (lesson.path.parent / file).exists()
            ):
                yield f"{cell.id}: no {file!r}"


def single_backslashes(lesson: Lesson) -> Found:
    """In a formula two backslashes break the line, and the command is plain text."""
    for cell in lesson.cells("markdown"):
        for formula in re.findall(r"\$[^$\n]+\$", cell.source):
            if re.search(r"\\\\[a-z]", formula):
                yield f"{cell.id}: {formula}"


def headings(lesson: Lesson) -> Found:
    lines = [x for cell in lesson.cells("markdown") for x in cell.source.splitlines()]
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
    wanted = int(any(map(_trains, lesson.code)))
    if len(marked) > 1 or len(marked) < wanted:
        yield f"{len(marked)} cells tagged parameters, wanted {wanted}"


def _trains(cell: nbformat.NotebookNode) -> bool:
    called = (n.func for n in ast.walk(tree(cell)) if isinstance(n, ast.Call))
    names = (f.attr if isinstance(f, ast.Attribute) else ast.unparse(f) for f in called)
    return not TRAINS.isdisjoint(names)


# Each rule, on a lesson that breaks it.

PROSE = """# 7 A title

See [the image](image.png), [a part](08_next.ipynb#part), [above](#above),
[far away](https://example.org/home/page), $\\lambda$ and `data/cat.jpg`.

## Summary
## Exercises
## Read on
"""
CODE = {
    "import": address.first_cell(address.address()),
    "setup": "from d2lext import apply\nd2l.plt, d2l.explore",
    "save": f"{SAVE}\n" + "x = 1\n" * 34,
    "knobs": "epochs = 1",
    "command": "!echo a\nd2l.Image.new('L', (1, 1))",
    "learn": "x.backward()",
    "learned": "assert x",
}


@pytest.fixture
def lesson(tmp_path: Path) -> Lesson:
    """A lesson that keeps every rule."""
    code = [
        nbformat.v4.new_code_cell(source, id=i, execution_count=n)
        for n, (i, source) in enumerate(CODE.items(), 1)
    ]
    by_id = {cell.id: cell for cell in code}
    by_id["knobs"].metadata.tags = ["parameters"]
    by_id["learn"].metadata.tags = ["nbval-ignore-output"]
    by_id["setup"].outputs = [
        nbformat.v4.new_output("stream", text="https://example.org/home/x\n"),
        nbformat.v4.new_output("display_data", {"text/plain": "1", "image/png": ""}),
    ]
    cells = [nbformat.v4.new_markdown_cell(PROSE, id="title"), *code]
    cells.insert(5, nbformat.v4.new_markdown_cell("More.", id="more"))
    path = tmp_path / "07_title.ipynb"
    nbformat.write(nbformat.v4.new_notebook(cells=cells), path)
    (tmp_path / "image.png").touch()
    (tmp_path / "08_next.ipynb").touch()
    return Lesson(path)


Spoil = Callable[[Lesson], None]


def cell(lesson: Lesson, slug: str) -> nbformat.NotebookNode:
    return next(cell for cell in lesson.nb.cells if cell.id == slug)


def change(slug: str, **fields: object) -> Spoil:
    return lambda lesson: cell(lesson, slug).update(fields)


def source(slug: str, text: str | None) -> Spoil:
    return change(slug, source=text)


def tagged(slug: str, *tags: str) -> Spoil:
    return change(slug, metadata={"tags": list(tags)})


def prose(old: str, new: str) -> Spoil:
    assert old in PROSE
    return source("title", PROSE.replace(old, new))


def output(kind: str, *args: object, **fields: object) -> Spoil:
    return change("save", outputs=[nbformat.v4.new_output(kind, *args, **fields)])


def shown(mime: str, content: object) -> Spoil:
    return output("display_data", {mime: content})


def widget_state(lesson: Lesson) -> None:
    lesson.nb.metadata.widgets = {"state": {}}


def without(slug: str) -> Spoil:
    return lambda lesson: lesson.nb.cells.remove(cell(lesson, slug))


def too_many_ignored(lesson: Lesson) -> None:
    for slug in ("setup", "save", "knobs", "command"):
        tagged(slug, "nbval-ignore-output")(lesson)
        cell(lesson, slug).source += "\nassert True"


def large_file(lesson: Lesson) -> None:
    with lesson.path.open("a") as file:
        file.write(" " * MAX_BYTES)


# A rule is in force by standing here, on a lesson that breaks it.
BROKEN = [
    (valid, source("setup", None)),
    (executed_in_order, change("save", execution_count=None)),
    (executed_in_order, change("save", execution_count=4)),
    (executed_in_order, without("setup")),
    (plain_outputs, output("error", ename="KeyError", evalue="", traceback=[])),
    (plain_outputs, widget_state),
    (plain_outputs, shown(f"{NEVER_STORED[0]}-view+json", {})),
    (plain_outputs, shown("image/svg+xml", "<svg/>")),
    (plain_outputs, shown("text/html", "<div><svg></svg></div>")),
    (plain_outputs, shown("text/plain", "<Legend at 0x7f00ff>")),
    (slugs, change("save", id="Save")),
    (slugs, change("save", id="save_it")),
    (slugs, change("save", id="save-")),
    (slugs, change("save", id="setup")),
    (slugs, change("save", id="0a1b2c3d")),
    (slugs, change("save", id="0a1b2c3d-11ee-4f00-8a00-0123456789ab")),
    (prose_before_code, without("title")),
    (prose_before_code, without("more")),
    (small_cells, source("setup", "x = 1\n" * 21)),
    (small_cells, source("save", "# @save\n" + "x = 1\n" * 20)),
    (small_cells, source("save", f"{SAVE}\n" + "x = 1\n" * 35)),
    (d2lext_first, without("import")),
    (d2lext_first, source("import", "import torch\nimport d2lext as d2l")),
    (d2lext_first, source("setup", "import d2lext as d2l")),
    (no_semicolons, source("setup", "d2l.plt.plot([1]);\n")),
    (ignored_cells_are_asserted, tagged("command", "nbval-ignore-output")),
    (ignored_cells_are_asserted, tagged("learned", "nbval-ignore-output")),
    (ignored_cells_are_asserted, tagged("command", "nbval-skip")),
    (ignored_cells_are_asserted, source("command", "# NBVAL_IGNORE_OUTPUT\n1")),
    (ignored_cells_are_asserted, source("learned", "# assert x\nprint(x)")),
    (ignored_cells_are_asserted, too_many_ignored),
    (no_slow_import, source("setup", "d2l.Timer()")),
    (no_slow_import, source("setup", "%time d2l.plt\nd2l.nothing_such")),
    (no_slow_import, source("setup", "from d2lext import accuracy")),
    (no_slow_import, source("setup", "from d2l import torch as d2l")),
    (no_slow_import, source("setup", "import d2l.torch")),
    (no_slow_import, source("setup", "from tools.experiments import questions")),
    (no_machine_paths, prose("data/cat.jpg", "/home/somebody/cat.jpg")),
    (no_machine_paths, prose("data/cat.jpg", "C:\\cat.jpg")),
    (no_machine_paths, source("setup", "x = 1  # see /tmp/x")),
    (no_machine_paths, output("stream", text="/usr/lib/torch.py:3: UserWarning\n")),
    (no_machine_paths, shown("text/plain", "PosixPath('/Users/somebody')")),
    (links_lead_somewhere, prose("image.png", "drawing.png")),
    (links_lead_somewhere, prose("08_next.ipynb#part", "09_next.ipynb#part")),
    (single_backslashes, prose("$\\lambda$", "$\\\\lambda$")),
    (headings, prose("# 7 A", "# 8 A")),
    (headings, prose("# 7 A title\n", "A title\n")),
    (headings, prose("## Summary", "### Summary")),
    (headings, prose("## Exercises", "")),
    (headings, prose("## Read on", "Read on")),
    (small_file, large_file),
    (parameters_where_it_trains, tagged("knobs")),
    (parameters_where_it_trains, tagged("command", "parameters")),
    (parameters_where_it_trains, without("knobs")),
]


RULES = list(dict.fromkeys(rule for rule, _ in BROKEN))


@functools.cache
def stored(path: Path) -> Lesson:
    return Lesson(path)


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
@pytest.mark.parametrize("path", LESSONS, ids=lambda path: path.stem)
def test_lesson(path: Path, rule: Callable[[Lesson], Found]) -> None:
    assert list(rule(stored(path))) == []


def test_every_rule_lets_a_good_lesson_pass(lesson: Lesson) -> None:
    assert [found for rule in RULES for found in rule(lesson)] == []


@pytest.mark.parametrize(("rule", "spoil"), BROKEN, ids=lambda x: x.__name__)
def test_rule_finds_what_is_broken(lesson: Lesson, rule, spoil) -> None:
    spoil(lesson)
    assert list(rule(lesson)) != []
