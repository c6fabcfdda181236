"""environment.yml, by way of its pip section: d2l's own pins, and the lessons run."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from tests.test_setup import interpreter

ROOT = Path(__file__).resolve().parent.parent
NEVER_COPIED = [".git", ".venv", ".*_cache", "__pycache__", "*.egg-info", "cifar-10-*"]


def sections() -> tuple[list[str], list[str]]:
    """What environment.yml has conda install, and what it has pip install."""
    listed = yaml.safe_load((ROOT / "environment.yml").read_text())["dependencies"]
    pip = next(entry["pip"] for entry in listed if isinstance(entry, dict))
    return [entry for entry in listed if isinstance(entry, str)], pip


def test_conda_installs_python_311_and_pip() -> None:
    conda, pip = sections()
    assert conda == ["python=3.11", "pip"]
    assert pip == ["-e .[lab,d2l,dev]"]


@pytest.mark.slow
def test_lessons_run_on_d2ls_own_pins(tmp_path: Path) -> None:
    # A copy, so that the editable install leaves nothing behind in the clone.
    clone = tmp_path / "clone"
    shutil.copytree(ROOT, clone, ignore=shutil.ignore_patterns(*NEVER_COPIED))
    subprocess.run(
        [interpreter("3.11"), "-m", "venv", str(tmp_path / "venv")], check=True
    )
    python = str(tmp_path / "venv/bin/python")
    words = [word for line in sections()[1] for word in line.split()]
    subprocess.run(
        [python, "-m", "pip", "install", "--quiet", *words],
        cwd=clone,
        check=True,
        timeout=3600,
    )

    told = subprocess.check_output(
        [python, "-c", "import numpy; print(numpy.__version__)"], text=True
    )
    assert told.strip() == "1.23.5"

    lessons = sorted(str(path) for path in (clone / "notebooks").glob("*.ipynb"))
    assert lessons, "there are no lessons"
    # Without the settings of pyproject.toml, which compare outputs.
    run = [python, "-m", "pytest", "-o", "addopts=", "-p", "no:cacheprovider"]
    nbval = ["--nbval-lax", "--nbval-current-env", "--nbval-cell-timeout=300"]
    ran = subprocess.run(
        [*run, *nbval, *lessons],
        cwd=clone,
        env=os.environ | {"D2LEXT_CIFAR10": "sample"},
        capture_output=True,
        text=True,
        timeout=1800,
        check=False,
    )
    assert ran.returncode == 0, ran.stdout[-4000:] + ran.stderr[-2000:]
