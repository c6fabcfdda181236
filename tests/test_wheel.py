"""A wheel, where readers have their own packages: none changes, every lesson runs."""

import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import nbformat
import pytest
from packaging.requirements import Requirement

import d2lext.__main__ as commands
from d2lext import places
from tests.lessons import LESSONS, ROOT, copy_course, write

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
LOWEST = [needed.replace(">=", "==") for needed in PROJECT["dependencies"]]
KERNEL = ["ipykernel==6.17.1", "ipython==7.34.0", "nbclient"]
TODAY = ["torch", "torchvision", "matplotlib", "pandas==2.2.2", "ipywidgets==7.7.1"]
THERE = {
    # Today's, with the older ones that Colab keeps; no d2l.
    "current": TODAY + KERNEL,
    # The lowest that pyproject.toml allows.
    "lowest": [*LOWEST, "numpy<2", *KERNEL],
}
EXECUTE = """
import sys, nbclient, nbformat
nb = nbformat.read(sys.argv[1], as_version=4)
nbclient.NotebookClient(nb, timeout=600, kernel_name="python3").execute()
nbformat.write(nb, sys.argv[1])
"""
SLIDERS = """
import d2lext as d2l
from torchvision.transforms import v2
explorer = d2l.explore(v2.RandomHorizontalFlip, d2l.data_path("cat.jpg"), p=(0, 1))
before = explorer.children[-1].value
explorer.controls["p"].value = 1
after = explorer.children[-1].value
assert "p=1.0" in after and "p=1.0" not in before
assert after.partition("src=")[2] != before.partition("src=")[2]
explorer
"""


def uv(*args: str | Path) -> str:
    """Not in the clone: `override-dependencies` there would replace versions."""
    command = [sys.executable, "-m", "uv", *map(str, args)]
    done = subprocess.run(command, cwd=ROOT.anchor, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


# The environment of a reader: none of this process's own settings.
OWN = ("PYTHON", "D2LEXT_", "JUPYTER", "VIRTUAL_ENV")
ALONE = {k: v for k, v in os.environ.items() if not k.startswith(OWN)}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built from a copy, so that nothing is left in the clone."""
    source, out = map(tmp_path_factory.mktemp, ("source", "wheel"))
    copy_course(source)
    here = ("--no-build-isolation", "--python", sys.executable)
    uv("build", "--wheel", *here, "--out-dir", out, source)
    return next(out.glob("*.whl"))


@pytest.fixture(scope="module", params=THERE)
def python(request, wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An environment into which the wheel was installed, changing nothing in it."""
    folder = tmp_path_factory.mktemp("environment")
    python = folder / "bin/python"
    uv("venv", "--clear", "--seed", "--python", sys.executable, folder)
    uv("pip", "install", "--python", python, *THERE[request.param])
    before = uv("pip", "freeze", "--python", python).splitlines()
    has = {r.name: r.specifier for r in map(Requirement, before)}
    for r in map(Requirement, THERE[request.param]):
        assert str(has[r.name]).removeprefix("==") in r.specifier, r
    uv("pip", "install", "--python", python, wheel)
    after = uv("pip", "freeze", "--python", python).splitlines()
    assert [line for line in after if "d2lext" not in line] == before
    return python


def installed(python: Path) -> list[Path]:
    """The files of an environment, without the ones that Python compiles."""
    files = python.parents[1].glob("lib/*/site-packages/**/*")
    return sorted(path for path in files if "__pycache__" not in path.parts)


def execute(python: Path, lesson: Path, folder: Path, fails: bool = False) -> str:
    """Run a notebook where it lies, with another home and none of our settings."""
    (home := folder / "home").mkdir(exist_ok=True)
    command, env = [python, "-c", EXECUTE, lesson.name], ALONE | {"HOME": str(home)}
    how = {"cwd": lesson.parent, "env": env, "capture_output": True, "text": True}
    done = subprocess.run(command, **how)
    assert bool(done.returncode) is fails, done.stderr[-3000:]
    return done.stderr


@pytest.mark.slow
@pytest.mark.parametrize("lesson", LESSONS, ids=lambda path: path.stem)
def test_a_lesson_alone(python: Path, lesson: Path, tmp_path: Path) -> None:
    """In an empty folder, with nothing of the course beside it."""
    (here := tmp_path / "ein Ordner 课").mkdir()
    before = installed(python)
    execute(python, Path(shutil.copy(lesson, here)), tmp_path)
    assert [path.name for path in here.iterdir()] == [lesson.name]
    assert installed(python) == before


@pytest.mark.slow
def test_sliders_move(python: Path, tmp_path: Path) -> None:
    """Under ipywidgets 7, too, a view is shown, and other images after a move."""
    path = write(tmp_path / "sliders.ipynb", SLIDERS)
    execute(python, path, tmp_path)
    (shown,) = nbformat.read(path, as_version=4).cells[1].outputs
    assert {"image/jpeg", "application/vnd.jupyter.widget-view+json"} <= {*shown.data}


@pytest.mark.slow
def test_commands_of_a_wheel(python: Path, tmp_path: Path) -> None:
    """They say what they can; lessons are copied, a reader's are not touched."""
    (mine := tmp_path / "meine 课").mkdir()
    (mine / "01_flip.ipynb").write_text("mine")
    env = ALONE | {"PYTHONIOENCODING": "ascii"}
    run = {"cwd": tmp_path, "env": env, "capture_output": True, "text": True}
    program = python.with_name("d2lext")
    lab = subprocess.run([program, "lab", mine.name, "--version"], **run)
    assert lab.returncode == 0, lab.stderr  # ipywidgets 7 brings JupyterLab along
    assert {path.name for path in mine.glob("*.ipynb")} == {p.name for p in LESSONS}
    assert (mine / "01_flip.ipynb").read_text() == "mine"
    told = subprocess.run([program, "--help"], **run)
    assert told.returncode == 0 and "lab [FOLDER]" in told.stdout
    assert subprocess.run([program, "lib"], **run).returncode == 1
    doctor = subprocess.run([program, "doctor"], **run)
    assert doctor.returncode == 0, doctor.stdout + doctor.stderr
    assert any(path.match("bundled/data/README.md") for path in installed(python))


@pytest.mark.slow
def test_the_first_cell_installs_when_asked(python, wheel: Path, tmp_path) -> None:
    """As a lesson that was uploaded to Colab or Kaggle, alone."""
    uv("pip", "uninstall", "--python", python, "d2lext")
    lesson = Path(shutil.copy(LESSONS[0], tmp_path))
    assert "see the lines above" in execute(python, lesson, tmp_path, fails=True)
    nb = nbformat.read(lesson, as_version=4)
    first = next(cell for cell in nb.cells if cell.cell_type == "code")
    line = r"# (%pip install --quiet ).*"
    first.source, done = re.subn(line, rf'\1"{wheel}"', first.source)
    assert done == 1
    nbformat.write(nb, lesson)
    execute(python, lesson, tmp_path)


def test_in_a_clone_everything_is_the_clones() -> None:
    assert places.CHECKOUT == places.COURSE == ROOT
    assert places.DATA == ROOT / "data"


def test_commands_hand_over(capsys) -> None:
    for command in ("cifar10", "answers", "train"):
        with pytest.raises(SystemExit) as stopped:
            commands.main([command, "--help"])
        assert stopped.value.code == 0 and "usage: " in capsys.readouterr().out


def test_lab_opens_the_lessons_of_a_language(monkeypatch, tmp_path: Path) -> None:
    """JupyterLab gets the first lesson, and all other arguments."""
    for name in ("02_b", "01_a", "zh/02_b", "zh/01_a"):
        write(tmp_path / f"{name}.ipynb")
    called = []
    monkeypatch.setattr(commands, "copy_lessons", lambda folder: None)
    monkeypatch.setattr(subprocess, "call", lambda args, env: called.append(args))
    commands.lab([str(tmp_path), "--no-browser"])
    commands.lab(["--zh", str(tmp_path)])
    english, chinese = called
    assert english[-2:] == ["--no-browser", str(tmp_path / "01_a.ipynb")]
    assert chinese[-1] == str(tmp_path / "zh/01_a.ipynb") and "--zh" not in chinese
