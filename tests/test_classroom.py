"""What happens in a class: a read-only course, many kernels, cells run again."""

import ctypes
import multiprocessing
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image

from d2lext.images import CLASSES, read_sample
from d2lext.runs import read_runs, record_run
from tests.lessons import LESSONS, ROOT

MAX_MEGABYTES = 1500
PR_CAPBSET_DROP, CAP_DAC_OVERRIDE = 24, 1  # of Linux's prctl.h and capability.h


@pytest.fixture(scope="module")
def course(tmp_path_factory) -> Iterator[Path]:
    """A copy that nobody may write to, under a name with spaces and other letters."""
    root = tmp_path_factory.mktemp("class") / "der Kurs 图像增强"
    images = shutil.ignore_patterns("cifar-10-*", "runs.jsonl", "train", "test")
    shutil.copytree(ROOT / "data", root / "data", ignore=images)
    for name in ("d2lext", "notebooks"):
        ignore = shutil.ignore_patterns("__pycache__", ".ipynb_checkpoints")
        shutil.copytree(ROOT / name, root / name, ignore=ignore)
    for path in [root, *root.rglob("*")]:
        path.chmod(0o555 if path.is_dir() else 0o444)
    may_write = "import os, sys; sys.exit(os.access(sys.argv[1], os.W_OK))"
    command = [sys.executable, "-c", may_write, root]
    if subprocess.run(command, preexec_fn=obey_permissions).returncode:
        pytest.skip("whoever runs this may write everywhere")
    yield root
    for path in [root, *root.rglob("*")]:
        path.chmod(0o755)


@pytest.fixture(scope="module")
def large(tmp_path_factory) -> Path:
    """As many training images as CIFAR-10 has: the sample's, again and again."""
    folder = tmp_path_factory.mktemp("large")
    for split, count in (("train", 50_000), ("test", 1_000)):
        X, y, *_ = read_sample(split)
        for i in range(count):
            place = folder / split / CLASSES[y[i % len(y)]]
            place.mkdir(parents=True, exist_ok=True)
            if i < len(y):
                Image.fromarray(X[i].numpy()).save(place / f"{i}.png")
            else:
                os.link(place / f"{i % len(y)}.png", place / f"{i}.png")
    return folder


def obey_permissions() -> None:
    """Called in a new process: what root starts there may not override permissions."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_CAPBSET_DROP, CAP_DAC_OVERRIDE, 0, 0, 0)


@pytest.mark.parametrize(
    "lesson",
    [LESSONS[0], *(pytest.param(path, marks=pytest.mark.slow) for path in LESSONS[1:])],
    ids=lambda path: path.stem,
)
@pytest.mark.skipif(os.name != "posix", reason="Windows has other users and folders")
def test_a_lesson_of_a_read_only_course(lesson, course, large, tmp_path) -> None:
    """Run in another folder, within the memory it may take, then again on much data."""
    runner = Path(__file__).with_name("lesson_runner.py")
    lesson = course / "notebooks" / lesson.name
    environment = os.environ | {"HOME": str(tmp_path), "PYTHONPATH": str(course)}
    environment.pop("D2LEXT_RUNS", None)  # as a reader has it: in the read-only folder
    command = [sys.executable, runner, lesson, tmp_path, large]
    how = {"env": environment, "cwd": tmp_path, "capture_output": True, "text": True}
    done = subprocess.run(command, **how, preexec_fn=obey_permissions)
    assert done.returncode == 0, done.stderr[-3000:]
    assert int(done.stdout.split()[-1]) <= MAX_MEGABYTES


def _as_a_kernel(number: int) -> None:
    for i in range(20):
        record_run({"kernel": number, "run": i, "much": "x" * 5000})


@pytest.mark.slow
def test_eight_kernels_share_a_file_of_runs() -> None:
    context = multiprocessing.get_context("spawn")
    with context.Pool(8, context.Barrier(8).wait, (600,)) as kernels:  # all at once
        kernels.map(_as_a_kernel, range(8), chunksize=1)
    assert len({(run["kernel"], run["run"]) for run in read_runs()}) == 160
