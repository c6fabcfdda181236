"""Imports point one way: course and tools import widgets, all the root, never back."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "d2lext"
LESSONS = {
    match[2]: int(match[1])
    for path in (ROOT / "notebooks").glob("*.ipynb")
    if (match := re.fullmatch(r"(\d\d)_(\w+)\.ipynb", path.name))
}
# Run, not imported; it hands over to what a reader asks for.
DOORS = {"__init__", "__main__"}


def imported(path: Path) -> Iterator[str]:
    """Full names of what a module imports of ours, wherever the import stands."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{path.name}: write imports in full"
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        else:
            continue
        yield from (name for name in names if name.split(".")[0] in ("d2lext", "tools"))


@pytest.mark.parametrize("path", sorted(PACKAGE.rglob("*.py")), ids=lambda p: p.stem)
def test_a_module_imports_only_what_stands_before_it(path: Path) -> None:
    own = LESSONS.get(path.stem, 0) if path.parent == PACKAGE else 99
    for name in imported(path):
        package, module, *_ = [*name.split("."), ""]
        assert package == "d2lext", f"{path.name} imports {name}"
        if path.parent == PACKAGE and path.stem not in DOORS:
            assert module not in ("course", "widgets", "train"), name
        if path.parent.name in ("widgets", "train"):
            assert module != "course", name
            assert module != "widgets" or path.parent.name == "widgets", name
        if own and module in LESSONS and path.stem != module:
            assert LESSONS[module] < own, f"lesson {own} imports lesson {module}"


def test_imports_are_found_wherever_they_stand(tmp_path: Path) -> None:
    (bad := tmp_path / "bad.py").write_text(
        "import json\nimport tools.x\ndef f():\n    from d2lext.course import answers"
    )
    assert list(imported(bad)) == ["tools.x", "d2lext.course.answers"]
