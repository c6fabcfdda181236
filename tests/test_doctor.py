import importlib.metadata
import os
import re
import subprocess
import sys
import sysconfig
from collections import namedtuple

import torch
from jupyter_client import kernelspec

from d2lext import multi_gpu, places
from d2lext.course import doctor
from d2lext.course.doctor import FINE, WITHOUT, WRONG


def test_it_prints_one_line_for_each_thing() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "d2lext", "doctor"],
        capture_output=True,
        text=True,
        env=os.environ | {"D2LEXT_CIFAR10": "sample"},
    )
    lines = done.stdout.splitlines()
    assert len(lines) == len(doctor.CHECKS), done.stderr
    assert all(line[:4] in ("OK  ", "--  ", "!!  ") for line in lines)
    assert done.returncode == any(line.startswith("!!") for line in lines)
    assert any(line.startswith("--  data: the bundled sample; ") for line in lines)


def test_packages(monkeypatch) -> None:
    mark, words = doctor.packages()
    assert mark == FINE and f", torch {importlib.metadata.version('torch')}, " in words
    monkeypatch.setattr(doctor, "LAB", ("no-lab",))
    words = "packages: some are missing; pip install"
    assert doctor.packages() == (WITHOUT, f"{words} no-lab")
    monkeypatch.setattr(doctor, "NEEDED", ("torch", "nothing-such"))
    assert doctor.packages() == (WRONG, f"{words} nothing-such no-lab")


def program(folder, name: str, says: str = "") -> str:
    """A program that says something, in a folder that is put on the PATH."""
    path = folder / name
    path.write_text(f"#!/bin/sh\necho {says}\n")
    path.chmod(0o755)
    return str(path)


def test_kernels(monkeypatch, tmp_path) -> None:
    manager, argv = kernelspec.KernelSpecManager, [sys.executable]
    spec = namedtuple("Spec", "argv")
    monkeypatch.setattr(manager, "get_kernel_spec", lambda self, name: spec(argv))
    monkeypatch.setattr(doctor.shutil, "which", lambda name: None)
    assert doctor.kernel()[0] == FINE
    linked = tmp_path / "python3"  # as that of another environment
    linked.symlink_to(os.path.realpath(sys.executable))
    for argv[0] in ("/bin/sh", str(tmp_path / "gone"), str(linked)):
        mark, words = doctor.kernel()
        assert mark == WRONG and "not this Python" in words
    argv[0], lab = "python", program(tmp_path, "jupyter-lab")
    monkeypatch.setattr(doctor.shutil, "which", lambda name: lab)
    mark, words = doctor.kernel()
    assert mark == WITHOUT and f"starts {lab}, of another environment" in words
    with monkeypatch.context() as conda_on_windows:  # keeps programs in Scripts
        conda_on_windows.setattr(sysconfig, "get_path", lambda name: tmp_path)
        assert doctor.kernel()[0] == FINE


def test_no_gpu(monkeypatch, tmp_path) -> None:
    """One that only NVIDIA's program sees is named."""
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    assert "; no GPU that lessons can use" in doctor.device()[1]
    program(tmp_path, "nvidia-smi", "Quadro K2000")
    mark, words = doctor.device()
    assert mark == WRONG and "Quadro K2000 cannot be used. Is its driver" in words


def test_gpus(monkeypatch) -> None:
    """One that is counted, but is not there, fails as one that is too old does."""
    last = torch.cuda.device_count()
    monkeypatch.setattr(torch.cuda, "device_count", lambda: last + 1)
    multi_gpu._computes.cache_clear()
    mark, words = doctor.device()
    assert mark == WRONG and words.startswith(f"GPU: cuda:{last} is not used: ")
    assert "previous-versions" in words and "\n" not in words
    gpus = [torch.device("cuda", i) for i in range(last + 1)]
    monkeypatch.setattr(multi_gpu, "try_all_gpus", lambda: gpus)
    monkeypatch.setattr(multi_gpu, "bf16_is_fast", lambda device: False)
    monkeypatch.setattr(torch.cuda, "get_device_name", str)
    names = ", ".join(map(str, gpus))
    assert doctor.device() == (FINE, f"GPU: {names}; trains in float32")


def test_memory_of_a_container(tmp_path) -> None:
    (tmp_path / "memory.current").write_text("600000000\n")
    for limit, words in (
        ("max", "GB free"),
        ("1000000000", "0.4 GB free; a lesson"),
    ):
        (tmp_path / "memory.max").write_text(f"{limit}\n")
        assert words in doctor.memory(tmp_path)[1]
    assert doctor.memory(tmp_path)[0] == WITHOUT


def test_data_that_is_not_where_it_was_said_to_be(monkeypatch, tmp_path) -> None:
    monkeypatch.setenv("D2LEXT_CIFAR10", str(tmp_path / "nowhere"))
    ((mark, words),) = doctor.diagnose((doctor.data,))
    assert mark == WRONG and "nowhere" in words


def test_disk(tmp_path) -> None:
    assert doctor.disk(tmp_path / "not/yet", needed=0)[0] == FINE
    mark, words = doctor.disk(tmp_path, needed=1e9)
    assert mark == WITHOUT and "GB free; CIFAR-10 needs" in words


def test_git_has_no_line_ends_of_windows() -> None:
    listed = subprocess.run(
        ["git", "ls-files", "--eol"],
        cwd=places.CHECKOUT,
        capture_output=True,
        text=True,
    ).stdout.splitlines()
    assert len(listed) > 100 and not re.findall(
        r"i/(?:crlf|mixed).*", "\n".join(listed)
    )


def test_a_check_that_fails_is_a_finding() -> None:
    def broken():
        raise RuntimeError("no driver")

    def kernel():
        raise ModuleNotFoundError(name="nothing_such")

    assert list(doctor.diagnose((broken, kernel))) == [
        (WRONG, "broken: RuntimeError: no driver"),
        (
            WITHOUT,
            "kernel: not checked, nothing_such is missing; pip install nothing_such",
        ),
    ]
