"""Executing lessons: what is stored, and what a failing cell leaves alone."""

from pathlib import Path

import nbformat
import pytest

from tools import execute

CELLS = {
    "first": "2 + 1",
    "widget": "import ipywidgets\nipywidgets.IntSlider(value=5)",
    "shown": "display(ipywidgets.Checkbox())\nprint('below')",
    "here": "from pathlib import Path\nPath('beside.txt').read_text()",
}


def write(path: Path, cells: dict[str, str]) -> None:
    code = [nbformat.v4.new_code_cell(s, id=i) for i, s in cells.items()]
    nbformat.write(nbformat.v4.new_notebook(cells=code), path)


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, int, bytes]:
    """A lesson that fails and one that works, executed together."""
    folder = tmp_path_factory.mktemp("lessons")
    (folder / "beside.txt").write_text("found")
    write(folder / "01_fails.ipynb", CELLS | {"broken": "1 / 0", "after": "4"})
    write(folder / "02_works.ipynb", CELLS)
    before = (folder / "01_fails.ipynb").read_bytes()
    code = execute.main([str(folder / n) for n in ("01_fails.ipynb", "02_works.ipynb")])
    return folder, code, before


@pytest.fixture(scope="module")
def stored(done) -> nbformat.NotebookNode:
    return nbformat.read(done[0] / "02_works.ipynb", as_version=4)


def test_failing_lesson_is_left_as_it_was(done) -> None:
    folder, code, before = done
    assert code == 1
    assert (folder / "01_fails.ipynb").read_bytes() == before
    files = {"01_fails.ipynb", "02_works.ipynb", "beside.txt"}
    assert {path.name for path in folder.iterdir()} == files


def test_failing_lesson_and_its_error_are_named(tmp_path: Path, capsys) -> None:
    write(tmp_path / "03_fails.ipynb", {"broken": "1 / 0"})
    assert execute.main([str(tmp_path / "03_fails.ipynb")]) == 1
    words = capsys.readouterr().out
    assert "03_fails.ipynb: a cell failed" in words and "ZeroDivisionError" in words


def test_lessons_after_a_failing_one_are_executed(stored) -> None:
    assert [cell.execution_count for cell in stored.cells] == [1, 2, 3, 4]
    first, *_, here = stored.cells
    assert first.outputs[0].data == {"text/plain": "3"}
    assert here.outputs[0].data == {"text/plain": "'found'"}


def test_no_widget_is_stored(done, stored) -> None:
    assert "widget" not in stored.metadata
    assert "widgets" not in stored.metadata
    assert "widget-view" not in (done[0] / "02_works.ipynb").read_text()
    assert "IntSlider" in stored.cells[1].outputs[0].data["text/plain"]
    assert [o.output_type for o in stored.cells[2].outputs] == [
        "display_data",
        "stream",
    ]


def test_nothing_of_this_machine_is_stored(stored) -> None:
    assert stored.metadata.language_info == {"name": "python"}
    assert not any(cell.metadata for cell in stored.cells)
