"""What lessons 1 to 6 say in words is what their cells show; cells do not collide."""

import json
import re
import symtable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from d2lext.runs import content
from tools import figures

ROOT = Path(__file__).resolve().parent.parent
LESSONS = ["01_flip", "02_crop", "03_color", "04_compose", "05_cifar10", "06_batch"]

# Lesson, Markdown cell, code cell, and what both must say. "prose=output" where the
# output has other digits.
QUOTES = [
    ("01_flip", "lies-finding", "linear-table", "62% 97% 100%"),
    ("01_flip", "gain-finding", "gain", "63.4 69.0 90.6 66.0 70.4 61.1"),
    ("02_crop", "kept-finding", "kept-by-scale", "72%"),
    ("02_crop", "solution-2-2", "kept-by-scale", "66% 72% 88%"),
    ("02_crop", "places-why", "places", "81"),
    ("03_color", "distribution-finding", "measure-table", "0.008"),
    (
        "03_color",
        "solution-3-2",
        "measure-table",
        "0.464 0.459 0.138 0.055 0.159 0.109",
    ),
    ("04_compose", "solution-4-2", "catalogue-measure", "69.0 69.9"),
]


def cells(lesson: str) -> list[dict]:
    path = ROOT / "notebooks" / f"{lesson}.ipynb"
    return json.loads(path.read_text(encoding="utf-8"))["cells"]


def text(lesson: str, slug: str) -> tuple[str, str]:
    """The source of a cell, and its source with all that it shows as text."""
    cell = next(cell for cell in cells(lesson) if cell["id"] == slug)
    source = "".join(cell["source"])
    shown = [o.get("text") or o["data"]["text/plain"] for o in cell.get("outputs", [])]
    return source, source + "".join(map("".join, shown))


@pytest.mark.parametrize(("lesson", "slug", "code", "quotes"), QUOTES)
def test_prose_says_what_the_cell_shows(lesson, slug, code, quotes):
    said, shown = text(lesson, slug)[0], text(lesson, code)[1]
    for quote in quotes.split():
        assert quote in said
        assert quote in shown


def test_differences_of_the_colour_table_are_as_said():
    rows = [line.split() for line in text("03_color", "measure-table")[1].splitlines()]
    mean = {row[0]: float(row[1]) for row in rows if len(row) == 8}
    said = text("03_color", "distribution-finding")[0]
    for knobs, by in ((("brightness",), 0.005), (("contrast", "saturation"), 0.002)):
        assert f"{by}" in said
        assert all(round(mean["none"] - mean[k], 3) == by for k in knobs)


def test_the_first_lesson_quotes_the_records():
    said = text("01_flip", "gain-finding")[0]
    for file in ("sample_policies.json", "cifar10_5000.json"):
        for policy in figures.POLICIES:
            assert f"{mean(file, policy):.1f}%" in said


def percents(lesson: str, slug: str) -> dict[str, list[int]]:
    """The percentages of each line that a cell shows, by the words before the colon."""
    found = {}
    for line in text(lesson, slug)[1].splitlines():
        name, _, rest = line.partition(":")
        if numbers := re.findall(r"(\d+)%", rest):
            found[name] = [int(number) for number in numbers]
    return found


def mean(file: str, policy: str) -> float:
    """Percent right after the last epoch, over the runs without mixup and CutMix."""
    runs = (run for run in content(file)["runs"] if run["policy"] == policy)
    mixing = ("mixup_alpha", "cutmix_alpha")
    plain = [r for r in runs if not any(r.get(name) for name in mixing)]
    return 100 * np.mean([run["test_acc"][-1] for run in plain])


def test_differences_in_words_are_those_of_tables_and_records():
    said = {
        (lesson, slug): text(lesson, slug)[0]
        for lesson, slug in [
            ("01_flip", "gain-why"),
            ("01_flip", "gain-finding"),
            ("01_flip", "lies-finding"),
            ("02_crop", "kept-finding"),
            ("02_crop", "solution-2-2"),
            ("03_color", "solution-3-2"),
            ("04_compose", "policies-why"),
        ]
    }
    sample, photographs = "sample_policies.json", "cifar10_5000.json"
    flips, more = (
        [mean(file, policy) - mean(file, "none") for file in (sample, photographs)]
        for policy in ("flip", "all")
    )
    gain, cost = round(more[0]), -round(more[1])
    words = f"gain {gain} points of test accuracy, or cost {cost}."
    assert words in said["01_flip", "gain-why"]
    words = f"Flips gain {round(min(flips))} to {round(max(flips))} points"
    assert words in said["01_flip", "gain-finding"]
    assert f"gains {gain} points on A" in said["01_flip", "gain-finding"]
    assert f"costs {cost} on B" in said["01_flip", "gain-finding"]
    plain, flipped = percents("01_flip", "linear-table")["b or d, 0.3"]
    assert f"{plain - flipped} points" in said["01_flip", "lies-finding"]
    kept = percents("02_crop", "kept-by-scale")
    for slug, area, fraction, words in [
        ("kept-finding", "0.08", 1 / 3, "one crop in three"),
        ("solution-2-2", "0.25", 1 / 8, "one crop of eight"),
    ]:
        assert words in said["02_crop", slug]
        assert abs(1 - kept[f"area from {area}"][0] / 100 - fraction) < 0.01
    color = mean(sample, "color") - mean(sample, "none")
    assert f"gain {color:.0f} points" in said["03_color", "solution-3-2"]
    assert "stays behind flips and crops" in said["04_compose", "policies-why"]
    for file in ("cifar10_ladder.json", "cifar10_ladder_longer.json"):
        assert mean(file, "flip+crop+trivialaugment") < mean(file, "flip+crop")


@pytest.mark.parametrize("name", figures.FIGURES)
def test_diagrams_are_as_drawn(name, tmp_path):
    figures.main(tmp_path)
    stored, drawn = (
        np.asarray(Image.open(folder / f"{name}.png").convert("RGB"), dtype=float)
        for folder in (ROOT / "data/figures", tmp_path)
    )
    assert abs(stored - drawn).mean() < 3


def global_names(source: str) -> tuple[set[str], set[str], set[str]]:
    """The names that a cell imports, that it assigns, and takes from other cells."""
    top = symtable.symtable(source, "cell", "exec")
    symbols = top.get_symbols()
    imported = {s.get_name() for s in symbols if s.is_imported()}
    assigned = {s.get_name() for s in symbols if s.is_assigned()}
    used, tables = {s.get_name() for s in symbols if s.is_referenced()}, [top]
    while tables:
        table = tables.pop()
        tables += table.get_children()
        if table is not top:
            used |= {s.get_name() for s in table.get_symbols() if s.is_global()}
    return imported, assigned, used - imported - assigned


def collisions(sources: list[str]) -> list[str]:
    """Names that a cell would find changed if it ran again after all others."""
    names, found = list(map(global_names, sources)), []
    assigned = set().union(*(assigned for _, assigned, _ in names))
    for at, (*_, used) in enumerate(names):
        for name in used & assigned:  # a name that is only imported stays what it is
            binding = [i for i, (a, b, _) in enumerate(names) if name in a | b]
            if any(i < at for i in binding) and any(i > at for i in binding):
                found.append(f"{name} in cell {at}, bound again in cell {binding[-1]}")
    return found


@pytest.mark.parametrize("lesson", LESSONS)
def test_cells_run_alone_after_run_all(lesson):
    code = [cell for cell in cells(lesson) if cell["cell_type"] == "code"]
    code = [
        c
        for c in code
        if not {"solution", "answer"} & set(c["metadata"].get("tags", []))
    ]
    assert collisions(["".join(cell["source"]) for cell in code]) == []


def test_collisions_are_found():
    assert collisions(["x = 1", "def f():\n    return x", "x = 2"])
    assert collisions(["import x", "x", "x = 2"])
    assert collisions(["x = 1", "x", "import x"])
    assert not collisions(["import x", "x", "import x"])
    assert not collisions(["x = 1", "[x for x in 'ab']", "print(x)", "y = [x]"])
