"""What happens in a class: a read-only course, many kernels, cells run again."""

import ctypes
import json
import multiprocessing
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image

from d2lext.images import CLASSES, read_cifar10, read_sample
from d2lext.runs import read_runs, record_run
from tests.common import make_folder

ROOT = Path(__file__).resolve().parent.parent
LESSONS = sorted(path.stem for path in (ROOT / "notebooks").glob("*.ipynb"))
MAX_MEGABYTES = 1500
PR_CAPBSET_DROP, CAP_DAC_OVERRIDE = 24, 1  # of Linux's prctl.h and capability.h


@pytest.fixture(scope="module")
def course(tmp_path_factory) -> Iterator[Path]:
    """A copy that nobody may write to, under a name with spaces and other letters."""
    root = tmp_path_factory.mktemp("class") / "der Kurs 图像增强"
    for name in ("d2lext", "notebooks", "data"):
        shutil.copytree(
            ROOT / name,
            root / name,
            ignore=shutil.ignore_patterns(
                "__pycache__", "cifar-10-*", "runs.jsonl", "train", "test"
            ),
        )
    for path in [root, *root.rglob("*")]:
        path.chmod(0o555 if path.is_dir() else 0o444)
    may_write = "import os, sys; sys.exit(os.access(sys.argv[1], os.W_OK))"
    command = [sys.executable, "-c", may_write, root]
    if subprocess.run(command, preexec_fn=obey_permissions).returncode:
        pytest.skip("whoever runs this may write everywhere")
    yield root
    for path in root.rglob("*"):
        if path.is_dir():
            path.chmod(0o755)
    root.chmod(0o755)


@pytest.fixture(scope="module")
def large(tmp_path_factory) -> Path:
    """As many training images as CIFAR-10 has: the sample's, again and again."""
    folder, count = tmp_path_factory.mktemp("large"), {"train": 50_000, "test": 1_000}
    for split in count:
        X, y, *_ = read_sample(split)
        for name in CLASSES:
            (folder / split / name).mkdir(parents=True)
        for i in range(count[split]):
            place = folder / split / CLASSES[y[i % len(y)]]
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
    [
        pytest.param(name, marks=() if name == LESSONS[0] else pytest.mark.slow)
        for name in LESSONS
    ],
)
@pytest.mark.skipif(os.name != "posix", reason="Windows has other users and folders")
def test_a_lesson_of_a_read_only_course(lesson, course, large, tmp_path) -> None:
    """Run in another folder, within the memory it may take, then again on much data."""
    runner, home = Path(__file__).with_name("lesson_runner.py"), tmp_path
    environment = os.environ | {
        "HOME": str(home),
        "PYTHONPATH": str(course),
        "D2LEXT_CIFAR10": "sample",
    }
    environment.pop("D2LEXT_RUNS", None)  # as a reader has it: in the read-only folder
    done = subprocess.run(
        [sys.executable, runner, course / f"notebooks/{lesson}.ipynb", home, large],
        env=environment,
        cwd=home,
        capture_output=True,
        text=True,
        preexec_fn=obey_permissions,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert int(done.stdout.split()[-1]) <= MAX_MEGABYTES


def _as_a_kernel(start, number: int, folder: str, runs: str, results) -> None:
    os.environ["D2LEXT_RUNS"] = runs
    start.wait(600)
    X, y, *_ = read_cifar10(True, folder)
    for i in range(20):
        record_run({"kernel": number, "run": i, "much": "x" * 5000})
    results.put((number, int(X.long().sum()), y.tolist()))


@pytest.mark.slow
def test_eight_kernels_share_a_folder(tmp_path) -> None:
    """All read its images at once and write to one file of runs."""
    make_folder(tmp_path, 20, 20)
    runs, context = tmp_path / "runs.jsonl", multiprocessing.get_context("spawn")
    start, results = context.Barrier(8), context.Queue()
    where = str(tmp_path), str(runs), results
    kernels = [
        context.Process(target=_as_a_kernel, args=(start, k, *where), daemon=True)
        for k in range(8)
    ]
    for kernel in kernels:
        kernel.start()
    found = [results.get(timeout=600) for _ in kernels]
    for kernel in kernels:
        kernel.join()
    assert sorted(number for number, *_ in found) == list(range(8))
    assert len({json.dumps(rest) for _, *rest in found}) == 1
    assert sorted(found[0][2]) == sorted([*range(10)] * 20)
    kept = {(run["kernel"], run["run"]) for run in read_runs(runs)}
    assert len(kept) == 160
