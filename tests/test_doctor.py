import importlib.metadata
import os
import sys
import sysconfig
from types import SimpleNamespace

import torch
from jupyter_client import kernelspec

import d2lext.__main__ as commands
from d2lext import multi_gpu
from d2lext.course import doctor
from d2lext.course.doctor import FINE, WITHOUT, WRONG


def check(finding: tuple[str, str], mark: str, words: str = "") -> None:
    assert finding[0] == mark and words in finding[1], finding


def test_it_prints_one_line_for_each_thing(capsys) -> None:
    status, lines = commands.main(["doctor"]), capsys.readouterr().out.splitlines()
    assert len(lines) == len(doctor.CHECKS)
    assert all(line[:4] in ("OK  ", "--  ", "!!  ") for line in lines)
    assert status == any(line.startswith("!!") for line in lines)
    assert any(line.startswith("--  data: the bundled sample; ") for line in lines)


def test_packages(monkeypatch) -> None:
    version = importlib.metadata.version("torch")
    check(doctor.packages(), FINE, f", torch {version}, ")
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
    spec = SimpleNamespace(argv=argv)
    monkeypatch.setattr(manager, "get_kernel_spec", lambda self, name: spec)
    monkeypatch.setattr(doctor.shutil, "which", lambda name: None)
    check(doctor.kernel(), FINE)
    linked = tmp_path / "python3"  # as that of another environment
    linked.symlink_to(os.path.realpath(sys.executable))
    for argv[0] in ("/bin/sh", str(tmp_path / "gone"), str(linked)):
        check(doctor.kernel(), WRONG, "not this Python")
    argv[0], lab = "python", program(tmp_path, "jupyter-lab")
    monkeypatch.setattr(doctor.shutil, "which", lambda name: lab)
    check(doctor.kernel(), WITHOUT, f"starts {lab}, of another environment")
    # Conda on Windows keeps programs in Scripts.
    monkeypatch.setattr(sysconfig, "get_path", lambda name: tmp_path)
    check(doctor.kernel(), FINE)


def test_no_gpu(monkeypatch, tmp_path) -> None:
    """One that only NVIDIA's program sees is named."""
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    check(doctor.device(), WITHOUT, "; no GPU that lessons can use")
    program(tmp_path, "nvidia-smi", "Quadro K2000")
    check(doctor.device(), WRONG, "Quadro K2000 cannot be used. Is its driver")


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


def test_memory_data_and_disk(monkeypatch, tmp_path) -> None:
    (tmp_path / "memory.current").write_text("600000000\n")  # of a container
    (tmp_path / "memory.max").write_text("max\n")
    assert "GB free" in doctor.memory(tmp_path)[1]
    (tmp_path / "memory.max").write_text("1000000000\n")
    check(doctor.memory(tmp_path), WITHOUT, "0.4 GB free; a lesson")
    monkeypatch.setenv("D2LEXT_CIFAR10", str(tmp_path / "nowhere"))
    check(*doctor.diagnose((doctor.data,)), WRONG, "nowhere")
    check(doctor.disk(tmp_path / "not/yet", needed=0), FINE)
    check(doctor.disk(tmp_path, needed=1e9), WITHOUT, "GB free; CIFAR-10 needs")


def test_a_check_that_fails_is_a_finding() -> None:
    def broken():
        raise RuntimeError("no driver")

    def kernel():
        raise ModuleNotFoundError(name="nothing_such")

    words = "kernel: not checked, nothing_such is missing; pip install nothing_such"
    found = [(WRONG, "broken: RuntimeError: no driver"), (WITHOUT, words)]
    assert list(doctor.diagnose((broken, kernel))) == found
