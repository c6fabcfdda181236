import importlib.metadata
import json
import os
import subprocess
import sys
from collections import namedtuple
from pathlib import Path

import pytest
from jupyter_client import kernelspec

from d2lext.course import doctor
from d2lext.course.doctor import FINE, WITHOUT, WRONG


def test_it_prints_one_line_for_each_thing() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "d2lext.course.doctor"],
        capture_output=True,
        text=True,
        env=os.environ | {"D2LEXT_CIFAR10": "sample"},
    )
    lines = done.stdout.splitlines()
    assert len(lines) == len(doctor.CHECKS), done.stderr
    assert all(line[:4] in ("OK  ", "--  ", "!!  ") for line in lines)
    assert done.returncode == any(line.startswith("!!") for line in lines)
    assert "--  data: the bundled sample; make cifar10 downloads CIFAR-10" in lines


def test_an_old_python() -> None:
    mark, words = doctor.python((3, 10, 4))
    assert mark == WRONG and "Python 3.10.4: needs 3.11 or newer" in words
    assert doctor.python((3, 13, 0))[0] == FINE


def test_packages_as_in_the_lock_and_not(tmp_path) -> None:
    version = importlib.metadata.version("numpy")
    lock = tmp_path / "requirements.lock"
    lock.write_text(
        f"# a comment\nnumpy=={version}\nwinonly==1 ; sys_platform == 'no'\n"
    )
    assert doctor.packages(lock) == (FINE, "packages: 1, all as in requirements.lock")
    lock.write_text(f"numpy=={version}\nnumpy==0.1\nnothing-such==1\n")
    mark, words = doctor.packages(lock)
    assert mark == WITHOUT
    assert f"2 not as in requirements.lock (numpy {version}, nothing-such missing)" in (
        words
    )


@pytest.mark.parametrize("content", [None, "=nonsense="])
def test_a_lock_that_cannot_be_read(tmp_path, content) -> None:
    lock = tmp_path / "requirements.lock"
    if content:
        lock.write_text(content)
    mark, words = doctor.packages(lock)
    assert mark == WRONG and "requirements.lock cannot be read" in words


def test_a_missing_package(monkeypatch) -> None:
    monkeypatch.setattr(doctor, "NEEDED", ("torch", "nothing-such"))
    assert doctor.packages() == (WRONG, "packages: nothing-such missing; make setup")


def kernel_of(argv: list[str]):
    Spec = namedtuple("Spec", "argv")
    return lambda self, name: Spec(argv)


def test_kernels(monkeypatch, tmp_path) -> None:
    manager = kernelspec.KernelSpecManager
    monkeypatch.setattr(manager, "get_kernel_spec", kernel_of([sys.executable]))
    assert doctor.kernel()[0] == FINE
    linked = tmp_path / "python3"  # as that of another environment
    linked.symlink_to(os.path.realpath(sys.executable))
    for other in ("sh", str(tmp_path / "gone"), str(linked)):
        monkeypatch.setattr(manager, "get_kernel_spec", kernel_of([other]))
        mark, words = doctor.kernel()
        assert mark == WRONG and "not this Python" in words

    def none(self, name):
        raise kernelspec.NoSuchKernel(name)

    monkeypatch.setattr(manager, "get_kernel_spec", none)
    assert doctor.kernel()[0] == WRONG


def test_data_that_is_not_where_it_was_said_to_be(monkeypatch, tmp_path) -> None:
    monkeypatch.setenv("D2LEXT_CIFAR10", str(tmp_path / "nowhere"))
    mark, words = doctor.data()
    assert mark == WRONG and "nowhere" in words


def test_a_full_disk_and_a_folder_that_is_read_only(tmp_path, monkeypatch) -> None:
    assert doctor.folder(tmp_path, needed=0)[0] == FINE
    mark, words = doctor.folder(tmp_path, needed=1e9)
    assert mark == WITHOUT and "GB free; downloading CIFAR-10 needs" in words
    monkeypatch.setattr(os, "access", lambda path, mode: False)  # also for root
    assert doctor.folder(tmp_path)[0] == WITHOUT


def test_sliders(tmp_path) -> None:
    assert doctor.widgets(tmp_path)[0] == WRONG
    file = Path(
        tmp_path,
        "share/jupyter/labextensions/@jupyter-widgets/jupyterlab-manager/package.json",
    )
    file.parent.mkdir(parents=True)
    file.write_text(json.dumps({"version": "5.0.15"}))
    assert doctor.widgets(tmp_path) == (
        FINE,
        "sliders: @jupyter-widgets/jupyterlab-manager 5.0.15",
    )


def test_a_check_that_fails_is_a_finding() -> None:
    def broken():
        raise RuntimeError("no driver")

    assert list(doctor.diagnose((broken, doctor.python))) == [
        (WRONG, "broken: RuntimeError: no driver"),
        doctor.python(),
    ]
