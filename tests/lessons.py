"""The repository and its lessons, and small lessons that a test writes."""

import shutil
from pathlib import Path

import nbformat

ROOT = Path(__file__).resolve().parent.parent
LESSONS = sorted((ROOT / "notebooks").glob("*.ipynb"))


def write(path: Path, *sources: str) -> Path:
    """A title, and code cells with the ids cell-0, cell-1 and so on."""
    new = nbformat.v4
    cells = [new.new_markdown_cell("# 1 Flips", id="title")]
    cells += [new.new_code_cell(s, id=f"cell-{i}") for i, s in enumerate(sources)]
    path.parent.mkdir(parents=True, exist_ok=True)
    nbformat.write(new.new_notebook(cells=cells), path)
    return path


def copy_course(folder: Path) -> None:
    """The repository, for what would leave something behind in it."""
    names = ("__pycache__", "build", "dist", "*.egg-info", "cifar-10-*", "runs.jsonl")
    private = shutil.ignore_patterns(".venv", ".git", ".*_cache", ".hypothesis", *names)
    own = {str(ROOT): {"answers", "student"}, str(ROOT / "data"): {"train", "test"}}
    shutil.copytree(
        ROOT,
        folder,
        ignore=lambda place, there: private(place, there) | own.get(place, set()),
        dirs_exist_ok=True,
    )
