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
CELLS = {
    "setup": (
        "import numpy as np\n"
        "from PIL import Image\n"
        "import d2lext as d2l\n"
        "img = Image.open(d2l.data_path('cat.jpg')).resize((120, 96))\n"
        "def careful(p):\n"
        "    if p == 1:\n"
        "        raise ValueError('p is too large')\n"
        "    return lambda img: img"
    ),
    "text": "print('value', 3)",
    "address": "object()",
    "blanked": "img",
    "swapped": "Image.fromarray(255 - np.asarray(img))",
    "garbled": "img.rotate(90)",
    "removed": "img.rotate(45)",
    "doubled": "img.rotate(60)",
    "encoded-again": "img.rotate(180)",
    "whole-sheet": "d2l.explore(careful, img, p=(0, 1, 0.5))",
    "sheet": "e = d2l.explore(careful, img, p=(0, 1, 0.5))\ne",
    "slider": "e.controls['p'].value = 0.7",
    "after": "e.controls['p'].value = 0.2\nassert e.sheet is not None",
}
# Stops before explorers, which take seconds to import torch.
WHOLE = list(CELLS)[: list(CELLS).index("whole-sheet")]
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


def white(image: str, kind: str) -> str:
    """A blank image of the same size."""
    with Image.open(io.BytesIO(base64.b64decode(image))) as img:
        return encoded(Image.new("RGB", img.size, "white"), kind)


def break_cells(nb: nbformat.NotebookNode) -> None:
    cells = {cell.id: cell for cell in nb.cells}
    data = {i: c.outputs[0].get("data") for i, c in cells.items() if c.outputs}
    cells["text"].outputs[0].text = "value 4\n"
    data["blanked"]["image/png"] = white(data["blanked"]["image/png"], "PNG")
    data["swapped"]["image/png"] = data["encoded-again"]["image/png"]
    data["garbled"]["image/png"] = "iVBORw0KGgoAAAANSUhEUgAA"
    del data["removed"]["image/png"]
    cells["doubled"].outputs *= 2
    again = Image.open(io.BytesIO(base64.b64decode(data["encoded-again"]["image/png"])))
    data["encoded-again"]["image/png"] = encoded(
        again.convert("RGB"), "JPEG", quality=80
    )
    data["sheet"]["image/jpeg"] = white(data["sheet"]["image/jpeg"], "JPEG")
    cells["slider"].source = "e.controls['p'].value = 1"


def run_tests(course: Path, *args: str, **env: str) -> dict[str, tuple[str, str]]:
    """Test name -> (passed, failed or skipped; the words)."""
    (course / "empty").mkdir(exist_ok=True)
    inherited = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith("PYTEST") and name not in ("CI", "SLOW")
    }
    # A PATH with nothing on it, so that no browser is found.
    env = inherited | {"PATH": str(course / "empty")} | env
    command = [sys.executable, "-m", "pytest", "--junitxml=report.xml", *args]
    done = subprocess.run(command, cwd=course, env=env, capture_output=True, text=True)
    assert done.returncode in (0, 1), done.stdout + done.stderr
    found = {}
    for case in ElementTree.parse(course / "report.xml").iter("testcase"):
        state, words = "passed", ""
        for result in case:
            if result.tag in ("failure", "error", "skipped"):
                state = result.tag.replace("failure", "failed")
                words = f"{result.get('message')}\n{result.text}"
        found[f"{case.get('classname')} {case.get('name')}"] = (state, words)
    return found


@pytest.fixture(scope="module")
def course(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("course")
    for name in SETTINGS:
        (folder / name).parent.mkdir(exist_ok=True)
        shutil.copy(ROOT / name, folder / name)
    (folder / "tests/test_marked.py").write_text(MARKED)
    (folder / "notebooks").mkdir()
    whole, broken = (folder / f"notebooks/{n}.ipynb" for n in ("whole", "broken"))
    cells = [nbformat.v4.new_code_cell(s, id=i) for i, s in CELLS.items()]
    nbformat.write(nbformat.v4.new_notebook(cells=cells), broken)
    nb = execute(broken)
    nbformat.write(nbformat.v4.new_notebook(cells=nb.cells[: len(WHOLE)]), whole)
    break_cells(nb)
    nbformat.write(nb, broken)
    return folder


@pytest.fixture(scope="module")
def results(course: Path) -> dict[str, tuple[str, str]]:
    return run_tests(course, "-n", "2", "--dist", "loadfile")


def result(results: dict, notebook: str, cell: str) -> tuple[str, str]:
    return results[f"notebooks.{notebook}.ipynb Cell {list(CELLS).index(cell)}"]


def test_what_is_not_broken_passes(results) -> None:
    for cell in WHOLE:
        assert result(results, "whole", cell) == ("passed", "")
    for cell in ("setup", "address", "encoded-again", "whole-sheet", "after"):
        assert result(results, "broken", cell) == ("passed", "")


@pytest.mark.parametrize(
    ("cell", "why"),
    [
        ("text", "value 4"),
        ("blanked", "mean colour (255, 255, 255), new an image of 120 x 96"),
        ("swapped", "of 255 on average (limit 6)"),
        ("garbled", "the stored output is no image"),
        ("removed", "image/png"),
        ("doubled", "dissimilar number of outputs"),
        ("sheet", "mean colour (255, 255, 255)"),
        ("slider", "p is too large"),
    ],
)
def test_broken_fails_and_names_the_cell(results, cell: str, why: str) -> None:
    state, words = result(results, "broken", cell)
    assert state == "failed"
    assert f"Cell {list(CELLS).index(cell)}: " in words
    assert why in words


def test_slow_and_browser_tests(results, course: Path) -> None:
    """Skipped with a reason; where every change is tested, no browser is a failure."""
    for name, words in (("slow", "SLOW=1"), ("browser", "no browser found (chromium")):
        state, said = results[f"tests.test_marked test_{name}"]
        assert (state, words in said) == ("skipped", True)
    results = run_tests(course, "tests", CI="true", SLOW="1")
    assert results["tests.test_marked test_slow"] == ("passed", "")
    state, words = results["tests.test_marked test_browser"]
    assert state != "skipped" and "no browser found" in words


# What is the same image, and what is not.


def crops(seed: int) -> list[Image.Image]:
    cat = Image.open(data_path("cat.jpg"))
    corners = np.random.default_rng(seed).integers(0, 150, (8, 2))
    return [cat.crop((x, y, x + 250, y + 200)) for x, y in corners]


def plot(last: float = 3) -> Image.Image:
    figure = Figure((4, 2.5))
    axes = figure.subplots()
    axes.plot([0, 1, 2, 3], [0, 2, 1, last], marker="o", label="one")
    axes.plot([0, 1, 2, 3], [3, 1, 1, 0], label="two")
    axes.legend()
    figure.savefig(buffer := io.BytesIO())
    return Image.open(buffer).convert("RGB")


def noisy(img: Image.Image) -> Image.Image:
    X = np.asarray(img).astype(int)
    X = X + np.random.default_rng(0).integers(-1, 2, X.shape)
    return Image.fromarray(X.clip(0, 255).astype(np.uint8))


def checkered(img: Image.Image) -> Image.Image:
    """Changed so that each patch keeps its mean."""
    X = np.asarray(img).astype(int).clip(40, 215)
    sign = np.indices(X.shape).sum(axis=0) % 2 * 2 - 1
    return Image.fromarray((X + 40 * sign).astype(np.uint8))


SHEET = contact_sheet(crops(0), 4, 120)  # as a lesson shows draws
IMAGES = {"sheet": SHEET, "plot": plot(), "small": crops(0)[0].resize((75, 60))}
CHANGES = {
    "blank": lambda img: Image.new("RGB", img.size, "white"),
    "black": lambda img: Image.new("RGB", img.size),
    "upside down": lambda img: img.rotate(180),
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
        encoded(IMAGES[name].convert("RGBA")),
        encoded(noisy(IMAGES[name])),
        encoded(IMAGES[name]) + "\n",
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


def test_words_give_sizes_and_difference() -> None:
    white, black, smaller = (
        ImageOutput(encoded(Image.new("RGB", size, color)))
        for size, color in (((30, 20), "white"), ((30, 20), 0), ((20, 20), "white"))
    )
    words = difference(white, black)
    assert "30 x 20" in words and "255.0 of 255" in words
    words = difference(white, smaller)
    assert "another size" in words and "20 x 20" in words
    clear = ImageOutput(encoded(Image.new("RGBA", (30, 20), (0, 0, 0, 0))))
    assert clear == white and clear != black  # what is transparent is seen on white


@pytest.mark.parametrize("garbage", ["", "iVBORw0KGgo", "/9j/4AAQ", "no base64"])
def test_what_cannot_be_decoded_differs_even_from_itself(garbage: str) -> None:
    assert ImageOutput(garbage) != ImageOutput(garbage)
    assert "no image" in difference(ImageOutput(garbage), ImageOutput(encoded(SHEET)))
