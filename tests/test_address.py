"""The course's address: empty, and set."""

import runpy
import sys
from pathlib import Path

import nbformat
import pytest

from tests.lessons import ROOT, copy_course, write
from tools import address

REPO = "https://github.com/somebody/course"
LESSON = "notebooks/01_flip.ipynb"
LINKS = (
    f"https://colab.research.google.com/github/somebody/course/blob/main/{LESSON}",
    f"https://kaggle.com/kernels/welcome?src={REPO}/blob/main/{LESSON}",
    f"https://mybinder.org/v2/gh/somebody/course/main?labpath={LESSON}",
)


@pytest.fixture
def course(tmp_path: Path) -> Path:
    copy_course(tmp_path)
    return tmp_path


def publish(course: Path, where: str) -> str:
    settings = course / "pyproject.toml"
    old = f'address = "{address.address(course)}"'
    settings.write_text(settings.read_text().replace(old, f'address = "{where}"'))
    assert address.main(course) == 0
    return (course / "README.md").read_text()


def first_cells(course: Path) -> set[str]:
    lessons = [nbformat.read(p, 4) for p in (course / "notebooks").glob("*.ipynb")]
    return {next(c for c in nb.cells if "outputs" in c).source for nb in lessons}


def test_published_and_withdrawn(course: Path) -> None:
    """Links and first cells come with the address, and go with it."""
    plain = publish(course, "")
    assert first_cells(course) == {address.first_cell("")}
    assert "colab.research" not in plain
    published = publish(course, REPO)
    (cell,) = first_cells(course)
    assert f"\n# %pip install --quiet git+{REPO}\n" in cell
    assert [published.count(link) for link in LINKS] == [1, 1, 1]
    assert publish(course, REPO) == published
    assert publish(course, "") == plain
    assert first_cells(course) == {address.first_cell("")}


def test_a_page_of_the_site_has_the_links(course: Path, monkeypatch) -> None:
    pytest.importorskip("latex2mathml")  # environment.yml leaves it out
    monkeypatch.setattr(sys, "path", sys.path[:])
    top = {}
    for where in ("", REPO):
        monkeypatch.setattr(address, "address", lambda where=where: where)
        conf = runpy.run_path(str(ROOT / "tools/site/conf.py"), {"tags": ()})
        source = [(course / LESSON).read_text()]
        conf["prepare"](None, "notebooks/01_flip", source)
        top[where] = nbformat.reads(source[0], as_version=4).cells[0].source
    assert top[""].splitlines()[2].startswith("*A page: ") and "Colab" not in top[""]
    assert [top[REPO].count(f"]({link})") for link in LINKS] == [1, 1, 1]


def test_a_lesson_that_begins_otherwise_is_named(course: Path, capsys) -> None:
    write(course / LESSON, "import torch")
    assert address.main(course) == 1
    assert "01_flip.ipynb: the first code cell does" in capsys.readouterr().err
