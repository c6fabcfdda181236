"""The course's address: empty, and set."""

import runpy
import shutil
import sys
from pathlib import Path

import nbformat
import pytest

from tools import address

ROOT = Path(__file__).resolve().parent.parent
REPO = "https://github.com/somebody/course"


@pytest.fixture
def course(tmp_path: Path) -> Path:
    """Two notebooks, README and pyproject.toml."""
    for name in ("pyproject.toml", "README.md"):
        shutil.copy(ROOT / name, tmp_path)
    for name in ("01_flip", "02_crop"):
        path = tmp_path / f"notebooks/{name}.ipynb"
        path.parent.mkdir(exist_ok=True)
        cells = [nbformat.v4.new_markdown_cell("# 1 Flips", id="title")]
        for i, source in enumerate(("import d2lext as d2l", "d2l.apply")):
            cells.append(nbformat.v4.new_code_cell(source, id=f"cell-{i}"))
        nbformat.write(nbformat.v4.new_notebook(cells=cells), path)
    return tmp_path


def publish(course: Path, where: str) -> str:
    settings = course / "pyproject.toml"
    old = f'address = "{address.address(course)}"'
    settings.write_text(settings.read_text().replace(old, f'address = "{where}"'))
    assert address.main(course) == 0
    return (course / "README.md").read_text()


def first_cells(course: Path) -> set[str]:
    paths = (course / "notebooks").rglob("*.ipynb")
    return {nbformat.read(path, as_version=4).cells[1].source for path in paths}


def links(path: str) -> tuple[str, ...]:
    return (
        f"https://colab.research.google.com/github/somebody/course/blob/main/{path}",
        f"https://kaggle.com/kernels/welcome?src={REPO}/blob/main/{path}",
        f"https://mybinder.org/v2/gh/somebody/course/main?labpath={path}",
    )


def test_published_and_withdrawn(course: Path) -> None:
    """Links and first cells come with the address, and go with it."""
    plain = publish(course, "")
    assert first_cells(course) == {address.first_cell("")}
    assert "colab.research" not in plain
    published = publish(course, REPO)
    (cell,) = first_cells(course)
    assert f"\n# %pip install --quiet git+{REPO}\n" in cell
    path = "notebooks/01_flip.ipynb"
    for link in links(path):
        assert published.count(link) == 1
    assert publish(course, REPO) == published
    assert publish(course, "") == plain
    assert first_cells(course) == {address.first_cell("")}


def test_a_page_of_the_site_has_the_links(course: Path, monkeypatch) -> None:
    pytest.importorskip("latex2mathml")  # environment.yml leaves it out
    monkeypatch.setattr(sys, "path", sys.path[:])
    path, top = course / "notebooks/01_flip.ipynb", {}
    for where in ("", REPO):
        monkeypatch.setattr(address, "address", lambda where=where: where)
        conf = runpy.run_path(str(ROOT / "tools/site/conf.py"), {"tags": ()})
        conf["prepare"](None, "notebooks/01_flip", source := [path.read_text()])
        top[where] = nbformat.reads(source[0], as_version=4).cells[0].source
    assert top[""].startswith("# 1 Flips\n\n*A page: ") and "Colab" not in top[""]
    for link in links("notebooks/01_flip.ipynb"):
        assert top[REPO].count(f"]({link})") == 1


def test_the_cell_imports_or_says_what_to_do(monkeypatch) -> None:
    cell, names = address.first_cell(""), {}
    exec(cell, names)
    assert names["d2l"].__name__ == "d2lext"
    monkeypatch.setitem(sys.modules, "d2lext", None)  # as if it was not there
    with pytest.raises(SystemExit, match="see the lines above"):
        exec(cell, {})


def test_a_lesson_that_begins_otherwise_is_named(course: Path, capsys) -> None:
    path = course / "notebooks/01_flip.ipynb"
    path.write_text(path.read_text().replace("import d2lext as d2l", "import torch"))
    assert address.main(course) == 1
    assert "01_flip.ipynb: the first code cell does" in capsys.readouterr().err
