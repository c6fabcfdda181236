"""Executing lessons: what is stored, and what a failing cell leaves alone."""

from pathlib import Path

import nbformat
from PIL import Image
from torchvision.transforms import v2

from d2lext.images import data_path
from tests.image_outputs import ImageOutput, difference
from tests.lessons import write
from tests.test_nbval import encoded
from tools import execute

CELLS = [
    "2 + 1",
    "import ipywidgets\nipywidgets.IntSlider(value=5)",
    "display(ipywidgets.Checkbox())\nprint('below')",
    "from pathlib import Path\nPath('beside.txt').read_text()",
]


def test_a_failing_lesson_and_one_that_works(tmp_path: Path, capsys) -> None:
    (tmp_path / "beside.txt").write_text("found")
    fails = write(tmp_path / "01_fails.ipynb", "1", "1 / 0", "4")
    works = write(tmp_path / "02_works.ipynb", *CELLS)
    before = fails.read_bytes()
    assert execute.main([str(fails), str(works)]) == 1
    words = capsys.readouterr().out
    assert "01_fails.ipynb: a cell failed" in words and "ZeroDivisionError" in words
    # It is left as it was, and nothing else is left behind.
    assert fails.read_bytes() == before
    assert len(list(tmp_path.iterdir())) == 3

    stored = nbformat.read(works, as_version=4)
    first, slider, shown, here = code = stored.cells[1:]
    assert [cell.execution_count for cell in code] == [1, 2, 3, 4]
    assert first.outputs[0].data == {"text/plain": "3"}
    assert here.outputs[0].data == {"text/plain": "'found'"}
    # No widget, and nothing of this machine.
    assert not {"widget", "widgets"} & stored.metadata.keys()
    assert "widget-view" not in works.read_text()
    assert "IntSlider" in slider.outputs[0].data["text/plain"]
    assert [o.output_type for o in shown.outputs] == ["display_data", "stream"]
    assert stored.metadata.language_info == {"name": "python"}
    assert not any(cell.metadata for cell in code)


def test_figures_are_stored_lighter() -> None:
    """Half as large or less, the same to nbval, white where they were white."""
    cat = Image.open(data_path("cat.jpg")).resize((160, 128))
    figure = Image.new("RGB", (700, 300), "white")
    for i in range(8):  # with and without colours that a palette would drop
        figure.paste(v2.functional.adjust_hue(cat, i / 8 - 0.5), (i % 4 * 170, 10))
        for img in (figure, cat):
            stored = execute.lighter(before := encoded(img))
            assert difference(ImageOutput(before), ImageOutput(stored)) is None
            assert len(stored) < len(before) / 2
            assert execute.lighter(stored) == stored
    white = ImageOutput(execute.lighter(encoded(figure))).pixels[-1, -1]
    assert white.tolist() == [255, 255, 255]
