"""Say what of an installation is in order and what to do about the rest.

`python -m d2lext.course.doctor` prints one line for each thing it looks at: OK, `--`
for something that the course does without, and `!!` with what to do. It ends with 1 if
there is a `!!`.
"""

import contextlib
import importlib.metadata
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
CHECKOUT = (ROOT / "Makefile").exists()
SETUP = "make setup" if CHECKOUT else "pip install --upgrade 'd2lext[lab]'"
OLDEST = (3, 11)
NEEDED = ("torch", "torchvision", "matplotlib", "pillow", "ipywidgets", "jupyterlab")
DISK, MEMORY = 1.0, 1.5  # GB: for CIFAR-10 and its archive, twice over; for a lesson
FINE, WITHOUT, WRONG = "OK", "--", "!!"
Finding = tuple[str, str]


def python(version: tuple[int, ...] = tuple(sys.version_info)) -> Finding:
    shown, oldest = (".".join(map(str, v[:3])) for v in (version, OLDEST))
    if version[:2] < OLDEST:
        return WRONG, f"Python {shown}: needs {oldest} or newer; make setup PYTHON=..."
    return FINE, f"Python {shown}"


def packages(lock: Path = ROOT / "requirements.lock") -> Finding:
    """Whether packages are there, and as the lock has them, where there is one."""
    from packaging.requirements import InvalidRequirement, Requirement

    found, other, also = {}, [], ""
    for d in importlib.metadata.distributions():
        if name := d.metadata["Name"]:
            found.setdefault(_plain(name), d.version)  # Python imports the first
        else:
            also += f"; {getattr(d, '_path', d)} is left of a package, delete it"
    if missing := [name for name in NEEDED if name not in found]:
        return WRONG, f"packages: {', '.join(missing)} missing; {SETUP}{also}"
    if not CHECKOUT and not lock.exists():
        return FINE, f"packages: {len(found)}{also}"
    try:
        lines = lock.read_text(encoding="utf-8").splitlines()
        if Path(".venv/.cpu").exists():  # made without CUDA
            lines = [line for line in lines if not re.match("nvidia|cuda|triton", line)]
        wanted = [Requirement(x) for x in lines if x.strip() and not x.startswith("#")]
    except (OSError, InvalidRequirement) as error:
        return WRONG, f"packages: {lock.name} cannot be read ({error}); get it with git"
    wanted = [r for r in wanted if not r.marker or r.marker.evaluate()]
    for r in wanted:
        version = found.get(_plain(r.name))
        if not version or not r.specifier.contains(version, prereleases=True):
            other.append(f"{r.name} {version or 'missing'}")
    if not other:
        return FINE, f"packages: {len(wanted)}, all as in {lock.name}{also}"
    shown = ", ".join(other[:3]) + (", ..." if len(other) > 3 else "")
    words = f"packages: {len(other)} not as in {lock.name} ({shown}); make setup "
    return WITHOUT, f"{words}installs those (environment.yml has others, too){also}"


def _plain(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()  # as PyPI compares names


def kernel() -> Finding:
    """Whether notebooks would run on this Python."""
    from jupyter_client.kernelspec import KernelSpecManager, NoSuchKernel

    def is_here(program: str) -> bool:
        # The folder, since a Python may be a link to one that environments share.
        folder = os.path.dirname(sys.executable)
        there = os.path.dirname(program)
        return os.path.exists(program) and os.path.samefile(there, folder)

    try:
        name = KernelSpecManager().get_kernel_spec("python3").argv[0]
    except NoSuchKernel:
        return WRONG, "kernel: none called python3; python -m ipykernel install --user"
    bare = re.fullmatch(r"python(3(\.\d+)?)?", name)  # Jupyter puts its own there
    if not bare and not is_here(shutil.which(name) or name):
        how = "python -m ipykernel install --sys-prefix"
        return WRONG, f"kernel: python3 runs {name}, not this Python; {how}"
    lab = shutil.which("jupyter-lab")
    if lab and not is_here(lab):
        how = "make lab" if CHECKOUT else "python -m jupyterlab"
        words = f"kernel: `jupyter lab` starts another environment's, {lab}"
        return WITHOUT, f"{words}; {how} starts this one's"
    return FINE, "kernel: python3 runs the Python that Jupyter runs on"


def gpu() -> Finding:
    """Which GPUs there are, and whether they can be used."""
    import torch

    from d2lext.multi_gpu import bf16_is_fast, try_all_gpus

    how = "; lessons run on the CPU"
    devices = [d for d in try_all_gpus() if d.type == "cuda"]
    names = ", ".join(torch.cuda.get_device_name(d) for d in devices) or _nvidia()
    if not names and torch.backends.mps.is_available():
        return WITHOUT, f"GPU: Apple's, which lessons do not use{how}"
    if not names:
        return WITHOUT, f"GPU: none that PyTorch can use{how}"
    why = "its driver is too old" if torch.version.cuda else "PyTorch has no CUDA"
    try:
        for device in devices:
            torch.ones(2, device=device).sum().item()
    except RuntimeError as error:
        devices, why = [], str(error).partition("\n")[0]
        how = "; with CUDA_VISIBLE_DEVICES= (empty) lessons run on the CPU"
    if not devices:
        also = "or get a PyTorch that fits from pytorch.org/get-started"
        return WRONG, f"GPU: {names} cannot be used: {why}{how}, {also}"
    fast = "bfloat16" if bf16_is_fast(devices[0]) else "float32"
    return FINE, f"GPU: {names}; trains in {fast}"


def _nvidia() -> str:
    """GPUs that NVIDIA's own program sees, unless they are hidden."""
    command = ["nvidia-smi", "--query-gpu=name", "--format=csv,noheader"]
    if "CUDA_VISIBLE_DEVICES" in os.environ or not shutil.which(command[0]):
        return ""
    done = subprocess.run(command, capture_output=True, text=True, timeout=20)
    return "" if done.returncode else ", ".join(done.stdout.splitlines())


def cpu() -> Finding:
    import torch

    from d2lext.multi_gpu import bf16_is_fast

    threads = f"CPU: {torch.get_num_threads()} threads"
    if bf16_is_fast(torch.device("cpu")):
        return FINE, f"{threads}; trains in bfloat16"
    return WITHOUT, f"{threads}; no fast bfloat16, so trains in float32, slower"


def memory(group: Path = Path("/sys/fs/cgroup")) -> Finding:
    """Whether a lesson has room; a container may have less than the machine."""
    import psutil

    free = psutil.virtual_memory().available
    with contextlib.suppress(OSError, ValueError):  # no limit
        limit, used = ((group / f"memory.{k}").read_text() for k in ("max", "current"))
        free = min(free, int(limit) - int(used))
    words = f"memory: {free / 1e9:.1f} GB free"
    if free < MEMORY * 1e9:
        return WITHOUT, f"{words}, a lesson takes {MEMORY}; shut down other kernels"
    return FINE, words


def data() -> Finding:
    from d2lext.images import read_cifar10

    try:
        source = read_cifar10(False).source
    except (OSError, ValueError) as error:
        return WRONG, f"data: {error}"
    if source.kind == "sample":
        how = "make cifar10" if CHECKOUT else "python -m d2lext.images --download"
        return WITHOUT, f"data: the bundled sample; {how} downloads CIFAR-10"
    return FINE, f"data: {source}"


def folder(path: Path | None = None, needed: float = DISK) -> Finding:
    """Whether downloads and runs can be kept."""
    from d2lext.images import DATA

    path = path or DATA
    free = shutil.disk_usage(path).free / 1e9
    if not os.access(path, os.W_OK):
        how = "D2LEXT_RUNS and D2LEXT_CIFAR10 name other places"
        return WITHOUT, f"{path}: cannot be written to, so runs are not kept; {how}"
    if free < needed:
        return WITHOUT, f"disk: {free:.1f} GB free; CIFAR-10 needs {needed:.0f}"
    return FINE, f"disk: {free:.0f} GB free"


def scripts(root: Path = ROOT) -> Finding:
    """Whether git has rewritten the ends of lines, as it may on Windows."""
    if any(b"\r\n" in path.read_bytes() for path in root.glob("tools/*.sh")):
        how = "make answers; git config core.autocrlf input; git rm -rq --cached .; "
        how += "git reset --hard"
        return WRONG, f"scripts: have the line ends of Windows, and do not run; {how}"
    return FINE, "scripts: as git has them"


def widgets(prefix: Path = Path(sys.prefix)) -> Finding:
    """Whether JupyterLab can show sliders."""
    name = "@jupyter-widgets/jupyterlab-manager"
    file = prefix / "share/jupyter/labextensions" / name / "package.json"
    try:
        version = json.loads(file.read_text(encoding="utf-8"))["version"]
    except (OSError, ValueError, KeyError):
        words = "JupyterLab's part of ipywidgets is not where this Python is"
        return WRONG, f"sliders: {words}; pip install jupyterlab_widgets"
    return FINE, f"sliders: {name} {version}"


CHECKS: tuple[Callable[[], Finding], ...] = (
    *(python, packages, kernel, gpu, cpu, memory, data, folder, scripts, widgets),
)


def diagnose(checks: tuple[Callable[[], Finding], ...] = CHECKS) -> Iterator[Finding]:
    """What each check found; one that fails is a finding too, not the end."""
    for check in checks:
        try:
            yield check()
        except Exception as error:
            yield WRONG, f"{check.__name__}: {type(error).__name__}: {error}"


def main(argv: list[str] | None = None) -> int:
    marks = set()
    for mark, words in diagnose():
        print(f"{mark}  {words}", flush=True)
        marks.add(mark)
    return int(WRONG in marks)


if __name__ == "__main__":
    sys.exit(main())
