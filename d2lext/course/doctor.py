"""Check an installation and tell its owner how to fix it.

`python -m d2lext doctor` prints a line for each check: OK, `--` for what the course
can do without, or `!!` with what to do. The exit status is 1 if there is a `!!`.
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

from d2lext.places import CHECKOUT, DATA, print_any_name

LOCK = CHECKOUT / "requirements.lock" if CHECKOUT else None
NEEDED = ("torch", "torchvision", "matplotlib", "pillow", "ipywidgets")
DISK, MEMORY = 1.0, 1.5  # GB: twice CIFAR-10 with its archive; a lesson
FINE, WITHOUT, WRONG = "OK", "--", "!!"
LAB = "jupyterlab"  # a hub, Colab and Kaggle have their own
Finding = tuple[str, str]


def python(version: tuple[int, ...] = tuple(sys.version_info)) -> Finding:
    shown = "Python " + ".".join(map(str, version[:3]))
    if version < (3, 11):
        return WRONG, f"{shown}: needs 3.11 or newer; make setup PYTHON=..."
    return FINE, shown


def packages(lock: Path | None = LOCK) -> Finding:
    """Whether packages are installed, with a lock in its versions."""
    from packaging.requirements import Requirement
    from packaging.utils import canonicalize_name

    found, also = {}, ""
    for d in importlib.metadata.distributions():
        if name := d.metadata["Name"]:
            # Python imports the first one.
            found.setdefault(canonicalize_name(name), d.version)
        else:
            also += f"; delete {getattr(d, '_path', d)}, left over from a package"
    if missing := [name for name in (*NEEDED, LAB) if name not in found]:
        words = f"packages: {', '.join(missing)} missing"
        mark = WITHOUT if missing == [LAB] else WRONG
        return mark, f"{words}; pip install {' '.join(missing)}{also}"
    if not lock:
        return FINE, f"packages: {len(found)}{also}"
    without = r"nvidia|cuda|triton|#" if (lock.parent / ".venv/.cpu").exists() else "#"
    try:
        lines = filter(None, lock.read_text(encoding="utf-8").splitlines())
        wanted = [Requirement(x) for x in lines if not re.match(without, x)]
    except (OSError, ValueError) as error:
        return WRONG, f"packages: {lock.name} cannot be read ({error}); get it with git"
    wanted = [r for r in wanted if not r.marker or r.marker.evaluate()]
    has = {r: found.get(canonicalize_name(r.name), "") for r in wanted}
    fits = {r: v and r.specifier.contains(v, prereleases=True) for r, v in has.items()}
    other = [f"{r.name} {has[r] or 'missing'}" for r in wanted if not fits[r]]
    if not other:
        return FINE, f"packages: {len(wanted)}, all as in {lock.name}{also}"
    shown = ", ".join(other[:3]) + (", ..." if len(other) > 3 else "")
    words = f"packages: {len(other)} differ from {lock.name} ({shown}); make setup "
    return WITHOUT, f"{words}installs its own (environment.yml has others, too){also}"


def kernel() -> Finding:
    """Whether notebooks run on this Python."""
    from jupyter_client.kernelspec import KernelSpecManager, NoSuchKernel

    # Of Python and of programs; environments may link to one Python.
    here = os.path.dirname(sys.executable), sysconfig.get_path("scripts")

    def is_here(program: str) -> bool:
        folder = os.path.realpath(os.path.dirname(program))
        return os.path.exists(program) and folder in map(os.path.realpath, here)

    try:
        name = KernelSpecManager().get_kernel_spec("python3").argv[0]
    except NoSuchKernel:
        return WRONG, "kernel: there is no python3; python -m ipykernel install --user"
    bare = re.fullmatch(r"python(3(\.\d+)?)?", name)  # Jupyter replaces it with its own
    if not bare and not is_here(shutil.which(name) or name):
        how = "python -m ipykernel install --sys-prefix"
        return WRONG, f"kernel: python3 runs {name}, not this Python; {how}"
    lab = shutil.which("jupyter-lab")
    if lab and not is_here(lab):
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
    smi, shown = shutil.which("nvidia-smi"), f"CPU: {torch.get_num_threads()} threads"
    if smi and "CUDA_VISIBLE_DEVICES" not in os.environ:  # what NVIDIA's program finds
        command = [smi, "--query-gpu=name", "--format=csv,noheader"]
        how = {"capture_output": True, "text": True, "timeout": 20}
        if names := ", ".join(subprocess.run(command, **how).stdout.splitlines()):
            words = f"GPU: {names} cannot be used. Is its driver too old?"
            return WRONG, f"{words} See pytorch.org/get-started for other builds"
    apple = ", Apple's GPU is not used" if torch.backends.mps.is_available() else ""
    return WITHOUT, f"{shown}; no GPU that lessons can use{apple}; trains in {fast}"


def memory(group: Path = Path("/sys/fs/cgroup")) -> Finding:
    """Whether a lesson has enough memory; a container may limit it."""
    import psutil

    free = psutil.virtual_memory().available
    with contextlib.suppress(OSError, ValueError):  # no limit
        limit, used = ((group / f"memory.{k}").read_text() for k in ("max", "current"))
        free = min(free, int(limit) - int(used))
    words = f"memory: {free / 1e9:.1f} GB free"
    if free < MEMORY * 1e9:
        return WITHOUT, f"{words}, but a lesson needs {MEMORY}; shut down other kernels"
    return FINE, words


def data() -> Finding:
    from d2lext.images import read_cifar10

    try:
        source = read_cifar10(False).source
    except (OSError, ValueError) as error:
        return WRONG, f"data: {error}"
    if source.kind == "sample":
        how = "python -m d2lext cifar10 downloads CIFAR-10"
        return WITHOUT, f"data: the bundled sample; {how}"
    return FINE, f"data: {source}"


def folder(path: Path = DATA, needed: float = DISK) -> Finding:
    """Whether downloads and runs can be saved."""
    while not path.exists():
        path = path.parent
    free = shutil.disk_usage(path).free / 1e9
    if not os.access(path, os.W_OK):
        how = "set D2LEXT_RUNS and D2LEXT_CIFAR10 to other places"
        return WITHOUT, f"{path}: is read-only, so runs are not recorded; {how}"
    low = f"; CIFAR-10 needs {needed:.0f}" if free < needed else ""
    return WITHOUT if low else FINE, f"disk: {free:.1f} GB free{low}"


def scripts(root: Path | None = CHECKOUT) -> Finding:
    """Whether git has changed the line endings, as it may on Windows."""
    if root and any(b"\r\n" in path.read_bytes() for path in root.glob("tools/*.sh")):
        how = "git config core.autocrlf input; git rm -rq --cached .; git reset --hard"
        words = "scripts: do not run with Windows line endings; save your answers"
        return WRONG, f"{words}, then {how}"
    return FINE, "scripts: line endings as in git"


def widgets() -> Finding:
    """Whether JupyterLab can show sliders."""
    from jupyter_core.paths import jupyter_path

    name = "labextensions/@jupyter-widgets/jupyterlab-manager/package.json"
    if any(map(os.path.exists, jupyter_path(name))):
        return FINE, "sliders: JupyterLab has the extension of ipywidgets"
    words = "sliders: JupyterLab lacks the extension of ipywidgets"
    return WRONG, f"{words}; pip install jupyterlab_widgets"


CHECKS = (python, packages, kernel, device, memory, data, folder, scripts, widgets)


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


if __name__ == "__main__":
    sys.exit(main())
