import importlib.metadata
import json
import os
import re
import subprocess
import sys
from collections import namedtuple
from pathlib import Path

import torch
from jupyter_client import kernelspec

from d2lext import multi_gpu
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


def test_a_lock_that_cannot_be_read(tmp_path) -> None:
    lock = tmp_path / "requirements.lock"
    for content in (None, "=nonsense="):
        if content:
            lock.write_text(content)
        mark, words = doctor.packages(lock)
        assert mark == WRONG and "requirements.lock cannot be read" in words


def test_a_wheel_has_no_lock(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(doctor, "CHECKOUT", False)
    mark, words = doctor.packages(tmp_path / "requirements.lock")
    assert mark == FINE and re.fullmatch(r"packages: \d+", words)


def test_a_missing_package(monkeypatch) -> None:
    monkeypatch.setattr(doctor, "NEEDED", ("torch", "nothing-such"))
    assert doctor.packages() == (WRONG, "packages: nothing-such missing; make setup")


def test_what_is_left_of_a_package(monkeypatch, tmp_path) -> None:
    (tmp_path / "~orch-2.0.dist-info").mkdir()
    monkeypatch.syspath_prepend(tmp_path)
    _, words = doctor.packages()
    assert f"{tmp_path / '~orch-2.0.dist-info'} is left of a package" in words


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


def test_a_jupyterlab_of_another_environment(monkeypatch, tmp_path) -> None:
    lab = tmp_path / "jupyter-lab"
    lab.write_text("#!/bin/sh\n")
    lab.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    mark, words = doctor.kernel()
    assert mark == WITHOUT and f"starts another environment's, {lab}" in words


def has_gpu(monkeypatch, fails: bool) -> None:
    """As with an NVIDIA GPU, which may fail at its first use."""
    ones = torch.ones

    def first_use(*shape, device):
        if fails:
            raise RuntimeError("no kernel image is available\nfor this device")
        return ones(*shape)

    cuda = [torch.device("cuda", 0)]
    monkeypatch.setattr(multi_gpu, "try_all_gpus", lambda: cuda)
    monkeypatch.setattr(multi_gpu, "bf16_is_fast", lambda device: False)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "Tesla P100")
    monkeypatch.setattr(torch, "ones", first_use)


def test_gpus(monkeypatch) -> None:
    has_gpu(monkeypatch, fails=False)
    assert doctor.gpu() == (FINE, "GPU: Tesla P100; trains in float32")
    has_gpu(monkeypatch, fails=True)
    mark, words = doctor.gpu()
    assert mark == WRONG and "P100 cannot be used: no kernel image is avail" in words
    assert "CUDA_VISIBLE_DEVICES=" in words and "\n" not in words


def test_gpus_that_pytorch_does_not_see(monkeypatch, tmp_path) -> None:
    monkeypatch.setattr(multi_gpu, "try_all_gpus", lambda: [torch.device("cpu")])
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    program = tmp_path / "nvidia-smi"
    program.write_text("#!/bin/sh\necho Quadro K2000\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    for version, why in (("13.0", "driver is too old"), (None, "has no CUDA")):
        monkeypatch.setattr(torch.version, "cuda", version)
        mark, words = doctor.gpu()
        assert mark == WRONG and "Quadro K2000" in words and why in words
    program.unlink()
    assert doctor.gpu()[0] == WITHOUT
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    assert "Apple's" in doctor.gpu()[1]


def test_memory_of_a_container(tmp_path) -> None:
    assert doctor.memory(tmp_path)[0] == FINE
    (tmp_path / "memory.current").write_text("600000000\n")
    for limit, mark in (("max", FINE), ("1000000000", WITHOUT)):
        (tmp_path / "memory.max").write_text(f"{limit}\n")
        found = doctor.memory(tmp_path)
        assert found[0] == mark
    assert found[1].startswith("memory: 0.4 GB free, a lesson takes 1.5")


def test_line_ends(tmp_path) -> None:
    (tmp_path / "tools").mkdir()
    assert doctor.scripts(tmp_path)[0] == FINE
    (tmp_path / "tools/setup.sh").write_bytes(b"#!/bin/sh\r\n")
    assert doctor.scripts(tmp_path)[0] == WRONG


def test_data_that_is_not_where_it_was_said_to_be(monkeypatch, tmp_path) -> None:
    monkeypatch.setenv("D2LEXT_CIFAR10", str(tmp_path / "nowhere"))
    mark, words = doctor.data()
    assert mark == WRONG and "nowhere" in words


def test_a_full_disk_and_a_folder_that_is_read_only(tmp_path, monkeypatch) -> None:
    assert doctor.folder(tmp_path, needed=0)[0] == FINE
    mark, words = doctor.folder(tmp_path, needed=1e9)
    assert mark == WITHOUT and "GB free; CIFAR-10 needs" in words
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
