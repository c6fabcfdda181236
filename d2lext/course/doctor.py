"""Say what of an installation is in order and what to do about the rest.

`python -m d2lext.course.doctor` prints one line for each thing it looks at: OK, `--`
for something that the course does without, and `!!` with what to do. It ends with 1 if
there is a `!!`.
"""

import importlib.metadata
import json
import os
import re
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
LOCK = ROOT / "requirements.lock"
OLDEST = (3, 11)
NEEDED = ("torch", "torchvision", "d2l", "matplotlib", "jupyterlab", "ipywidgets")
DISK = 1.0  # GB, for CIFAR-10 and its archive, twice over
FINE, WITHOUT, WRONG = "OK", "--", "!!"
Finding = tuple[str, str]


def python(version: tuple[int, ...] = tuple(sys.version_info)) -> Finding:
    """Whether this Python is new enough."""
    shown = ".".join(map(str, version[:3]))
    if version[:2] < OLDEST:
        wanted = ".".join(map(str, OLDEST))
        return WRONG, f"Python {shown}: needs {wanted} or newer; make setup PYTHON=..."
    return FINE, f"Python {shown}"


def _plain(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()  # as PyPI compares names


def packages(lock: Path = LOCK) -> Finding:
    """Whether the packages are there, and as the lock has them."""
    from packaging.requirements import InvalidRequirement, Requirement

    found: dict[str, str] = {}
    for d in importlib.metadata.distributions():
        found.setdefault(_plain(d.name), d.version)  # Python imports the first
    missing = [name for name in NEEDED if name not in found]
    if missing:
        return WRONG, f"packages: {', '.join(missing)} missing; make setup"
    same, other = 0, []
    try:
        for line in lock.read_text(encoding="utf-8").splitlines():
            if not line.strip() or line.startswith("#"):
                continue
            wanted = Requirement(line)
            if wanted.marker and not wanted.marker.evaluate():
                continue
            version = found.get(_plain(wanted.name))
            if version and wanted.specifier.contains(version, prereleases=True):
                same += 1
            else:
                other.append(f"{wanted.name} {version or 'missing'}")
    except (OSError, InvalidRequirement) as error:
        return WRONG, f"packages: {lock.name} cannot be read ({error}); get it with git"
    if not other:
        return FINE, f"packages: {same}, all as in {lock.name}"
    shown = ", ".join(other[:3]) + (", ..." if len(other) > 3 else "")
    return WITHOUT, (
        f"packages: {len(other)} not as in {lock.name} ({shown}); make setup installs "
        "those (environment.yml has others, and works too)"
    )


def kernel() -> Finding:
    """Whether notebooks would run on this Python."""
    from jupyter_client.kernelspec import KernelSpecManager, NoSuchKernel

    try:
        spec = KernelSpecManager().get_kernel_spec("python3")
    except NoSuchKernel:
        return WRONG, "kernel: none called python3; python -m ipykernel install --user"
    if re.fullmatch(r"python(3(\.\d+)?)?", spec.argv[0]):  # Jupyter puts its own there
        return FINE, "kernel: python3 runs the Python that Jupyter runs on"
    program = shutil.which(spec.argv[0]) or spec.argv[0]
    # The folders too: a virtual environment's Python is a link to one that many share.
    here = (sys.executable, os.path.dirname(sys.executable))
    there = (program, os.path.dirname(program))
    if not os.path.exists(program) or not all(map(os.path.samefile, here, there)):
        return WRONG, (
            f"kernel: python3 runs {spec.argv[0]}, not this Python; "
            "python -m ipykernel install --sys-prefix"
        )
    return FINE, "kernel: python3 runs this Python"


def gpu() -> Finding:
    """Which GPUs there are, and whether they are fast with bfloat16."""
    import torch

    from d2lext.multi_gpu import bf16_is_fast, try_all_gpus

    devices = [d for d in try_all_gpus() if d.type == "cuda"]
    if not devices:
        return WITHOUT, "GPU: none that PyTorch can use; lessons run on the CPU"
    names = ", ".join(torch.cuda.get_device_name(d) for d in devices)
    fast = "bfloat16" if bf16_is_fast(devices[0]) else "float32"
    return FINE, f"GPU: {names}; trains in {fast}"


def cpu() -> Finding:
    """Whether the processor is fast with bfloat16."""
    import torch

    from d2lext.multi_gpu import bf16_is_fast

    threads = f"CPU: {torch.get_num_threads()} threads"
    if bf16_is_fast(torch.device("cpu")):
        return FINE, f"{threads}; trains in bfloat16"
    return WITHOUT, f"{threads}; no fast bfloat16, so trains in float32, slower"


def data() -> Finding:
    """Which data the lessons would use."""
    from d2lext.images import read_cifar10

    try:
        source = read_cifar10(False).source
    except (OSError, ValueError) as error:
        return WRONG, f"data: {error}"
    if source.kind == "sample":
        return WITHOUT, "data: the bundled sample; make cifar10 downloads CIFAR-10"
    return FINE, f"data: {source}"


def folder(path: Path = ROOT / "data", needed: float = DISK) -> Finding:
    """Whether downloads and runs can be kept."""
    free = shutil.disk_usage(path).free / 1e9
    if not os.access(path, os.W_OK):
        return WITHOUT, (
            f"{path.name}/: cannot be written to; lessons run, but runs are not kept "
            "(D2LEXT_RUNS and D2LEXT_CIFAR10 name other places)"
        )
    if free < needed:
        return WITHOUT, (
            f"disk: {free:.1f} GB free; downloading CIFAR-10 needs {needed:.0f}"
        )
    return FINE, f"disk: {free:.0f} GB free"


def widgets(prefix: Path = Path(sys.prefix)) -> Finding:
    """Whether JupyterLab can show sliders."""
    name = "@jupyter-widgets/jupyterlab-manager"
    file = prefix / "share/jupyter/labextensions" / name / "package.json"
    try:
        version = json.loads(file.read_text(encoding="utf-8"))["version"]
    except (OSError, ValueError, KeyError):
        return WRONG, (
            "sliders: JupyterLab's part of ipywidgets is not where this Python is; "
            "make setup, or pip install jupyterlab_widgets"
        )
    return FINE, f"sliders: {name} {version}"


CHECKS: tuple[Callable[[], Finding], ...] = (
    *(python, packages, kernel, gpu, cpu, data, folder, widgets),
)


def diagnose(
    checks: tuple[Callable[[], Finding], ...] = CHECKS,
) -> Iterator[Finding]:
    """What each check found; one that fails is a finding too, not the end."""
    for check in checks:
        try:
            yield check()
        except Exception as error:
            yield WRONG, f"{check.__name__}: {type(error).__name__}: {error}"


def main() -> int:
    marks = []
    for mark, words in diagnose():
        print(f"{mark}  {words}", flush=True)
        marks.append(mark)
    return int(WRONG in marks)


if __name__ == "__main__":
    sys.exit(main())
