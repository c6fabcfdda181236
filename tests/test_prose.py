"""What lessons 1 to 4 say in words is what their cells and the records show."""

import itertools
import json
import re

import numpy as np
import pytest
from PIL import Image

from d2lext.runs import content
from tests.lessons import ROOT
from tools import figures

SAMPLE, PHOTOGRAPHS = "sample_policies.json", "cifar10_5000.json"
# Lesson, Markdown cell, code cell, and what both must say.
QUOTES = [
    ("01_flip", "lies-finding", "linear-table", "62% 97% 100%"),
    ("02_crop", "kept-finding", "kept-by-scale", "72%"),
    ("02_crop", "solution-2-2", "kept-by-scale", "66% 72% 88%"),
    ("02_crop", "places-why", "places", "81"),
    ("03_color", "distribution-finding", "measure-table", "0.008"),
    ("03_color", "solution-3-2", "measure-table", "0.464 0.459 0.138 0.055 0.159"),
    ("03_color", "solution-3-2", "measure-table", "0.109"),
    ("04_compose", "solution-4-2", "catalogue-measure", "69.0 69.9"),
]


def text(lesson: str, slug: str) -> tuple[str, str]:
    """The source of a cell, and its source with all that it shows as text."""
    path = ROOT / f"notebooks/{lesson}.ipynb"
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    cell = next(cell for cell in cells if cell["id"] == slug)
    source = "".join(cell["source"])
    shown = [o.get("text") or o["data"]["text/plain"] for o in cell.get("outputs", [])]
    return source, source + "".join(map("".join, shown))


def mean(file: str, policy: str) -> float:
    """Percent right after the last epoch, over the runs without mixup and CutMix."""
    mixing = ("mixup_alpha", "cutmix_alpha")
    runs = [run for run in content(file)["runs"] if run["policy"] == policy]
    plain = [run for run in runs if not any(map(run.get, mixing))]
    return 100 * np.mean([run["test_acc"][-1] for run in plain])


@pytest.mark.parametrize(("lesson", "slug", "code", "quotes"), QUOTES)
def test_prose_says_what_the_cell_shows(lesson, slug, code, quotes):
    said, shown = text(lesson, slug)[0], text(lesson, code)[1]
    for quote in quotes.split():
        assert quote in said and quote in shown


def test_a_table_in_words_is_its_record():
    for run in content("busy.json")["runs"]:
        assert (
            " | ".join(map(str, run.values()))
            in text("07_multi_gpu", "speed-finding")[0]
        )


def test_differences_in_words_are_those_of_tables_and_records():
    flip, everything = (
        [mean(file, policy) - mean(file, "none") for file in (SAMPLE, PHOTOGRAPHS)]
        for policy in ("flip", "all")
    )
    color = mean(SAMPLE, "color") - mean(SAMPLE, "none")
    gain, cost = round(everything[0]), -round(everything[1])
    files = itertools.product((SAMPLE, PHOTOGRAPHS), figures.POLICIES)
    means = [f"{mean(file, policy):.1f}" for file, policy in files]
    linear, kept = (
        text("01_flip", "linear-table")[1],
        text("02_crop", "kept-by-scale")[1],
    )
    plain, flipped = re.search(r"b or d, 0.3: +(\d+)% +(\d+)%", linear).groups()
    for lesson, slug, words in [
        *(("01_flip", "gain-finding", f"{percent}%") for percent in means),
        *(("01_flip", "gain", percent) for percent in means),  # beside the diagram
        ("01_flip", "gain-why", f"gain {gain} points of test accuracy, or"),
        ("01_flip", "gain-why", f"or cost {cost}."),
        ("01_flip", "gain-finding", f"gain {min(flip):.0f} to {max(flip):.0f} points"),
        ("01_flip", "gain-finding", f"gains {gain} points on A"),
        ("01_flip", "gain-finding", f"costs {cost} on B"),
        ("01_flip", "lies-finding", f"{int(plain) - int(flipped)} points"),
        ("02_crop", "kept-finding", "areas from 0.08, about one crop in three"),
        ("02_crop", "solution-2-2", "From 0.25 this happens in one crop of eight"),
        ("03_color", "distribution-finding", "Brightness lowers it by 0.005"),
        ("03_color", "distribution-finding", "saturation lower it by 0.002"),
        ("03_color", "solution-3-2", f"gain {color:.0f} points"),
        ("04_compose", "policies-why", "stays behind flips and crops"),
    ]:
        assert words in text(lesson, slug)[0]
    for area, few in (("0.08", 1 / 3), ("0.25", 1 / 8)):
        percent = int(re.search(rf"\narea from {area}: (\d+)%", kept)[1])
        assert percent == pytest.approx(100 * (1 - few), abs=1)
    rows = [line.split() for line in text("03_color", "measure-table")[1].splitlines()]
    grey = {row[0]: float(row[1]) for row in rows if len(row) == 8}
    for name, by in (("brightness", 0.005), ("contrast", 0.002), ("saturation", 0.002)):
        assert round(grey["none"] - grey[name], 3) == by
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
