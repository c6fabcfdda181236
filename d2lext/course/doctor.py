"""`d2lext doctor`: check an installation and tell its owner how to fix it.

A line of `!!` says what to do, one of `--` what the course can do without.
"""

import contextlib
import importlib.metadata
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

from d2lext.places import DATA, print_any_name

NEEDED = "torch", "torchvision", "matplotlib", "ipywidgets", "jupyterlab-widgets"
DISK, MEMORY = 1.0, 1.5  # GB: twice CIFAR-10 with its archive; a lesson
FINE, WITHOUT, WRONG = "OK", "--", "!!"
LAB = "ipykernel", "jupyterlab"  # a hub, Colab and Kaggle have their own
Finding = tuple[str, str]


def packages() -> Finding:
    """The versions of Python and of the packages that every lesson needs."""
    found, missing = [f"Python {sys.version.split()[0]}"], []
    for name in (*NEEDED, *LAB):
        try:
            found.append(f"{name} {importlib.metadata.version(name)}")
        except importlib.metadata.PackageNotFoundError:
            missing.append(name)
    if missing:
        mark = WITHOUT if {*missing} <= {*LAB} else WRONG
        return mark, f"packages: some are missing; pip install {' '.join(missing)}"
    return FINE, ", ".join(found)


def kernel() -> Finding:
    """Whether notebooks run on this Python."""
    from jupyter_client.kernelspec import KernelSpecManager

    # Of Python and of programs; environments may link to one Python.
    here = os.path.dirname(sys.executable), sysconfig.get_path("scripts")

    def is_here(program: str) -> bool:
        folder = os.path.realpath(os.path.dirname(program))
        return os.path.exists(program) and folder in map(os.path.realpath, here)

    name = KernelSpecManager().get_kernel_spec("python3").argv[0]
    bare = re.fullmatch(r"python(3(\.\d+)?)?", name)  # Jupyter replaces it with its own
    if not bare and not is_here(shutil.which(name) or name):
        how = "python -m ipykernel install --sys-prefix"
        return WRONG, f"kernel: python3 runs {name}, not this Python; {how}"
    if (lab := shutil.which("jupyter-lab")) and not is_here(lab):
        words = f"kernel: `jupyter lab` starts {lab}, of another environment"
        return WITHOUT, f"{words}; python -m d2lext lab starts this one's"
    return FINE, "kernel: python3 runs the Python that Jupyter runs on"


def device() -> Finding:
    """The device that trains nets, and whether some GPU cannot be used."""
    import torch

    from d2lext.multi_gpu import bf16_is_fast, try_all_gpus

    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        devices = try_all_gpus()
    fast = "bfloat16" if bf16_is_fast(devices[0]) else "float32"
    gpus = [device for device in devices if device.type == "cuda"]
    if len(gpus) < torch.cuda.device_count():
        return WRONG, "GPU: " + "; ".join(str(w.message) for w in said)
    if gpus:
        names = ", ".join(map(torch.cuda.get_device_name, gpus))
        return FINE, f"GPU: {names}; trains in {fast}"
    smi = shutil.which("nvidia-smi")
    if smi and "CUDA_VISIBLE_DEVICES" not in os.environ:  # what NVIDIA's program finds
        command = [smi, "--query-gpu=name", "--format=csv,noheader"]
        how = {"capture_output": True, "text": True, "timeout": 20}
        if names := ", ".join(subprocess.run(command, **how).stdout.splitlines()):
            words = f"GPU: {names} cannot be used. Is its driver too old?"
            return WRONG, f"{words} See pytorch.org/get-started for other builds"
    shown = f"CPU: {torch.get_num_threads()} threads; no GPU that lessons can use"
    return WITHOUT, f"{shown} (Apple's are not used); trains in {fast}"


def memory(group: Path = Path("/sys/fs/cgroup")) -> Finding:
    """Whether a lesson has enough memory; a container may limit it."""
    import psutil

    free = psutil.virtual_memory().available
    with contextlib.suppress(OSError, ValueError):  # no limit
        limit, used = ((group / f"memory.{k}").read_text() for k in ("max", "current"))
        free = min(free, int(limit) - int(used))
    words = f"memory: {free / 1e9:.1f} GB free; a lesson needs {MEMORY}"
    return FINE if free > MEMORY * 1e9 else WITHOUT, words


def data() -> Finding:
    from d2lext.images import read_cifar10

    source = read_cifar10(False).source
    if source.kind == "sample":
        return WITHOUT, "data: the bundled sample; d2lext cifar10 downloads CIFAR-10"
    return FINE, f"data: {source}"


def disk(path: Path = DATA, needed: float = DISK) -> Finding:
    while not path.exists():
        path = path.parent
    free = shutil.disk_usage(path).free / 1e9
    words = f"disk: {free:.1f} GB free; CIFAR-10 needs {needed:.0f}"
    return FINE if free > needed else WITHOUT, words


CHECKS = (packages, kernel, device, memory, data, disk)


def diagnose(checks: tuple[Callable[[], Finding], ...] = CHECKS) -> Iterator[Finding]:
    """The findings of all checks; one that raises is a finding, too."""
    for check in checks:
        try:
            yield check()
        except ModuleNotFoundError as error:
            words = f"{check.__name__}: not checked, {error.name} is missing"
            yield WITHOUT, f"{words}; pip install {error.name}"
        except Exception as error:
            yield WRONG, f"{check.__name__}: {type(error).__name__}: {error}"


def main(argv: list[str] | None = None) -> int:
    print_any_name()
    worst = 0
    for mark, words in diagnose():
        print(f"{mark}  {words}", flush=True)
        worst |= mark == WRONG
    return int(worst)
