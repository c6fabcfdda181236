"""The test of the tests: what is broken in a stored lesson fails, and where.

A tiny course with the project's own settings and plugins is tested in one run.
"""

import base64
import io
import os
import shutil
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import nbformat
import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image, ImageChops

from d2lext.images import data_path
from d2lext.widgets.sheet import contact_sheet
from tests.image_outputs import ImageOutput, difference
from tools.execute import execute

ROOT = Path(__file__).resolve().parent.parent
SETTINGS = (
    "pyproject.toml",
    "conftest.py",
    "tests/conftest.py",
    "tests/image_outputs.py",
    "tests/sanitize.cfg",
)
SETUP = """
from PIL import Image
import d2lext as d2l
img = Image.open(d2l.data_path('cat.jpg')).resize((120, 96))
def careful(p):
    if p == 1:
        raise ValueError('p is too large')
    return lambda img: img
"""
CELLS = {  # sources, and words of the failure after `break_cells`
    "setup": (SETUP, None),
    "text": ("print('value', 3)", "value 4"),
    "address": ("object()", None),
    "blanked": ("img", "mean colour (255, 255, 255), new an image of 120 x 96"),
    "removed": ("img.rotate(45)", "image/png"),
    "encoded-again": ("img.rotate(180)", None),
    "sheet": (
        "e = d2l.explore(careful, img, p=(0, 1, 0.5))\ne",
        "an image of 90 x 90",
    ),
    "slider": ("e.controls['p'].value = 0.7", "p is too large"),
    "after": ("e.controls['p'].value = 0.2\nassert e.sheet is not None", None),
}
MARKED = """
import pytest

@pytest.mark.slow
def test_slow():
    pass

@pytest.mark.browser
def test_browser():
    pass
"""


def encoded(img: Image.Image, kind: str = "PNG", **options: object) -> str:
    buffer = io.BytesIO()
    img.save(buffer, kind, **options)
    return base64.b64encode(buffer.getvalue()).decode()


def break_cells(cells: dict[str, nbformat.NotebookNode]) -> None:
    data = {i: c.outputs[0].get("data") for i, c in cells.items() if c.outputs}
    cells["text"].outputs[0].text = "value 4\n"
    data["blanked"]["image/png"] = encoded(Image.new("RGB", (120, 96), "white"))
    del data["removed"]["image/png"]
    again = io.BytesIO(base64.b64decode(data["encoded-again"]["image/png"]))
    jpeg = encoded(Image.open(again).convert("RGB"), "JPEG", quality=80)
    data["encoded-again"]["image/png"] = jpeg
    data["sheet"]["image/jpeg"] = encoded(Image.new("RGB", (90, 90)), "JPEG")
    cells["slider"].source = "e.controls['p'].value = 1"


@pytest.fixture(scope="module")
def results(tmp_path_factory) -> dict[str, tuple[str, str]]:
    """Test name -> (passed, failure or error; the words), where changes are tested."""
    course = tmp_path_factory.mktemp("course")
    for name in SETTINGS:
        (course / name).parent.mkdir(exist_ok=True)
        shutil.copy(ROOT / name, course / name)
    (course / "tests/test_marked.py").write_text(MARKED)
    path = course / "notebooks/broken.ipynb"
    path.parent.mkdir()
    cells = [nbformat.v4.new_code_cell(s, id=i) for i, (s, _) in CELLS.items()]
    nbformat.write(nbformat.v4.new_notebook(cells=cells), path)
    nb = execute(path)
    break_cells({cell.id: cell for cell in nb.cells})
    nbformat.write(nb, path)
    env = {k: v for k, v in os.environ.items() if not k.startswith("PYTEST")}
    # No browser is found on this path.
    env |= {"CI": "true", "SLOW": "1", "PATH": str(course / "nowhere")}
    command = [sys.executable, "-m", "pytest", "-n", "1", "--junitxml=report.xml"]
    done = subprocess.run(command, cwd=course, env=env, capture_output=True, text=True)
    assert done.returncode == 1, done.stdout + done.stderr
    found = {}
    for case in ElementTree.parse(course / "report.xml").iter("testcase"):
        bad = [r for r in case if r.tag in ("failure", "error", "skipped")]
        words = "\n".join(f"{r.get('message')}\n{r.text}" for r in bad)
        state = bad[0].tag if bad else "passed"
        found[f"{case.get('classname')} {case.get('name')}"] = (state, words)
    return found


@pytest.mark.parametrize("cell", CELLS)
def test_broken_fails_and_names_the_cell(results, cell: str) -> None:
    index, why = list(CELLS).index(cell), CELLS[cell][1]
    state, words = results[f"notebooks.broken.ipynb Cell {index}"]
    assert state == ("failure" if why else "passed")
    assert not why or (f"Cell {index}: " in words and why in words)


def test_changes_are_tested_with_all_tests(results) -> None:
    """No browser is a failure there, not a reason to skip."""
    assert results["tests.test_marked test_slow"] == ("passed", "")
    state, words = results["tests.test_marked test_browser"]
    assert state != "skipped" and "no browser found (chromium" in words


# What is the same image, and what is not.


def crops(seed: int) -> list[Image.Image]:
    cat = Image.open(data_path("cat.jpg"))
    corners = np.random.default_rng(seed).integers(0, 150, (8, 2))
    return [cat.crop((x, y, x + 250, y + 200)) for x, y in corners]


def plot(last: float = 3) -> Image.Image:
    figure = Figure((4, 2.5))
    figure.subplots().plot([0, 1, 2, 3], [0, 2, 1, last], marker="o")
    figure.savefig(buffer := io.BytesIO())
    return Image.open(buffer).convert("RGB")


def checkered(img: Image.Image) -> Image.Image:
    """Changed so that each patch keeps its mean."""
    X = np.asarray(img).astype(int).clip(40, 215)
    sign = np.indices(X.shape).sum(axis=0) % 2 * 2 - 1
    return Image.fromarray((X + 40 * sign).astype(np.uint8))


SHEET = contact_sheet(crops(0), 4, 120)  # as a lesson shows draws
IMAGES = {"sheet": SHEET, "plot": plot(), "small": crops(0)[0].resize((75, 60))}
CHANGES = {
    "moved by a pixel": lambda img: ImageChops.offset(img, 1, 0),
    "a row less": lambda img: img.crop((0, 0, img.width, img.height - 1)),
    "a fine pattern": checkered,
    "a little darker": lambda img: img.point(lambda x: 0.9 * x),
}


@pytest.mark.parametrize("name", IMAGES)
def test_the_same_image(name: str) -> None:
    stored = ImageOutput(encoded(IMAGES[name]))
    for new in (
        encoded(IMAGES[name], "JPEG", quality=80),
        encoded(IMAGES[name].convert("RGBA")) + "\n",
    ):
        assert difference(stored, ImageOutput(new)) is None
        assert stored == ImageOutput(new) and (stored != ImageOutput(new)) is False


@pytest.mark.parametrize("change", CHANGES)
def test_another_image(change: str) -> None:
    for image in IMAGES.values():
        stored = ImageOutput(encoded(image))
        new = ImageOutput(encoded(CHANGES[change](image)))
        assert stored != new and new != stored and (stored == new) is False


def test_one_tile_of_eight_or_one_point_of_a_plot() -> None:
    same = crops(0)
    darker = same[5].point(lambda x: 0.85 * x)
    for tile in (crops(1)[5], same[4], darker):
        other = contact_sheet([*same[:5], tile, *same[6:]], 4, 120)
        assert ImageOutput(encoded(SHEET)) != ImageOutput(encoded(other))
    assert ImageOutput(encoded(plot())) != ImageOutput(encoded(plot(last=2.8)))


def test_what_is_transparent_is_seen_on_white() -> None:
    white, black, clear = (
        ImageOutput(encoded(Image.new("RGBA", (30, 20), color)))
        for color in ("white", "black", (0, 0, 0, 0))
    )
    assert clear == white and clear != black


@pytest.mark.parametrize("garbage", ["", "iVBORw0KGgo", "no base64"])
def test_what_cannot_be_decoded_differs_even_from_itself(garbage: str) -> None:
    assert ImageOutput(garbage) != ImageOutput(garbage)
    assert "no image" in difference(ImageOutput(garbage), ImageOutput(encoded(SHEET)))
