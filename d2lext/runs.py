"""Record the results of every training run as a line of JSON.

Runs are added to `data/runs.jsonl`, which git ignores. The variable D2LEXT_RUNS names
another file; if it is empty, nothing is recorded.
"""

import contextlib
import json
import math
import os
import platform
import sys
import time
import zlib
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import torch
import torch.distributed as dist
import torchvision
from filelock import FileLock, Timeout

from d2lext.images import DATA, data_path

VARIABLE = "D2LEXT_RUNS"
CURVES = ("loss", "train_acc", "test_acc")
CGROUPS, OWN_GROUPS = Path("/sys/fs/cgroup"), Path("/proc/self/cgroup")
DATA_NAMES = {  # by the kind of their source
    "sample": "the bundled sample",
    "official": "CIFAR-10",
    "folder": "CIFAR-10",
}


def runs_file() -> Path | None:
    """The file that runs are added to; None if they are not recorded."""
    name = os.environ.get(VARIABLE, str(DATA / "runs.jsonl"))
    return Path(name).expanduser() if name else None


def hardware(device: torch.device) -> dict:
    """The device, threads and versions behind a measured time."""
    name = _processor()
    if device.type == "cuda":
        name = torch.cuda.get_device_name(device)
    return {
        "device": f"{device.type}: {name}",
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "torchvision": torchvision.__version__,
        "python": platform.python_version(),
    }


def usable_cores() -> int:
    """The cores that this process may use, by its affinity and its cgroup's quota."""
    cores = os.cpu_count() or 1
    if hasattr(os, "sched_getaffinity"):
        cores = len(os.sched_getaffinity(0))
    return max(1, math.ceil(min([cores, *_quotas()])))


def _quotas() -> Iterator[float]:
    """The number of cores that each cgroup around this process grants."""
    for line in OWN_GROUPS.read_text().splitlines() if OWN_GROUPS.exists() else ():
        _, controllers, path = line.split(":", 2)
        mount = CGROUPS / controllers  # v2 has one tree, without a name
        group = mount / path.lstrip("/")
        # Version 2, then version 1; files may be missing, or say "max" or -1.
        for folder in {mount, group, *group.parents} - {*mount.parents}:
            for names in (("cpu.max",), ("cpu.cfs_quota_us", "cpu.cfs_period_us")):
                with contextlib.suppress(OSError, ValueError):
                    words = [(folder / name).read_text() for name in names]
                    quota, period = map(int, " ".join(words).split())
                    yield quota / period if quota > 0 else math.inf


def _processor() -> str:
    with contextlib.suppress(OSError):  # only Linux has it
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def describe(net: torch.nn.Module, train_iter, device: torch.device) -> dict:
    """A description of the net, the data and the machine, ready for JSON."""
    dataset = getattr(train_iter, "dataset", None)  # a list of batches has none
    source = getattr(dataset, "source", None)
    return {
        "net": type(net).__name__,
        "parameters": sum(p.numel() for p in net.parameters()),
        "data": source.kind if source else type(dataset or train_iter).__name__,
        "train_images": None if dataset is None else len(dataset),
        "batches": len(train_iter),
        "processes": dist.get_world_size() if dist.is_initialized() else 1,
        "seed": torch.initial_seed(),
        **hardware(device),
    }


def curves(history: Iterable) -> dict:
    """The results of a `History` at the end of each epoch, ready for JSON."""
    ends = [point for point in history if point.test_acc is not None]
    rows = {n: [round(getattr(p, n), 5) for p in ends] for n in CURVES}
    return {
        "epochs": len(ends),
        **rows,
        "examples": ends[-1].examples if ends else 0,
        "seconds": round(ends[-1].seconds, 2) if ends else 0,
    }


def record_run(run: dict) -> None:
    """Add a run to the file; if that fails, print a note."""
    path = runs_file()
    if path is None:
        return
    try:
        line = json.dumps({"time": time.strftime("%Y-%m-%dT%H:%M:%S"), **run}) + "\n"
        path.parent.mkdir(parents=True, exist_ok=True)
        # A single write in append mode keeps the lines of several kernels apart.
        with path.open("ab", buffering=0) as file:
            file.write(line.encode())
    # Only a note: this runs in a `finally`, and must not hide another error.
    except (OSError, TypeError, ValueError) as error:
        words = f"note: the run was not recorded in {path} ({error})"
        print(f"{words}; set {VARIABLE} to another file", file=sys.stderr)


def read_runs(path: str | os.PathLike | None = None) -> list[dict]:
    """All recorded runs, oldest first; lines that are not JSON are skipped."""
    path = Path(path) if path else runs_file()
    if path is None or not path.exists():
        return []
    runs = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        try:
            runs.append(json.loads(line))
        except json.JSONDecodeError:
            print(f"note: {path}, line {number}: not a run", file=sys.stderr)
    return runs


# Runs that a command collects


class Results:
    """Runs in a JSON file, saved after each run; several commands may share it.

    keys: the fields that identify a run; every run in the file has them.
    Raises ValueError for a file of anything else, and never overwrites it.
    """

    def __init__(self, path: Path, command: str, keys: Iterable[str]) -> None:
        self.path, self.command, self.keys = Path(path), command, tuple(keys)
        self.claimed = None
        self.read()

    def _identity(self, run: dict) -> str:
        return json.dumps([run[key] for key in self.keys])

    def _content(self) -> tuple[list[str], dict[str, dict]]:
        """The commands in the file, and its runs by their identities."""
        if not self.path.exists():
            return [], {}
        try:
            content = json.loads(self.path.read_text("utf-8"))
            runs = {self._identity(run): run for run in content["runs"]}
            return content["command"].split("\n"), runs
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise ValueError(
                f"--results {self.path}: holds no runs of this command "
                f"({type(error).__name__}: {error}); name another file"
            ) from error

    def read(self) -> list[dict]:
        """All runs in the file at this moment."""
        return list(self._content()[1].values())

    def claim(self, wanted: dict) -> str:
        """Reserve a run until `release`: "free" to train, or "done", or "busy"."""
        identity = self._identity(wanted)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        number = zlib.crc32(identity.encode())
        self.claimed = FileLock(f"{self.path}.{number:08x}.lock")
        try:
            self.claimed.acquire(timeout=0)
        except Timeout:
            return "busy"
        if identity not in self._content()[1]:
            return "free"
        self.release()
        return "done"

    def release(self) -> None:
        if self.claimed:
            Path(self.claimed.lock_file).unlink(missing_ok=True)
            self.claimed.release()
            self.claimed = None

    def add(self, *runs: dict) -> None:
        """Add the runs that the file lacks; it is replaced atomically."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(f"{self.path}.lock"):
            commands, there = self._content()  # with what other commands have added
            commands = "\n".join(dict.fromkeys([*commands, self.command]))
            for run in runs:
                there.setdefault(self._identity(run), run)
            lines = ",\n".join(map(json.dumps, there.values()))
            text = f'{{"command": {json.dumps(commands)}, "runs": [\n{lines}\n]}}\n'
            part = self.path.with_name(self.path.name + ".part")
            part.write_text(text, encoding="utf-8")
            os.replace(part, self.path)


# Recorded runs, for lessons


def content(name: str) -> dict:
    """The content of a file in data/results."""
    return json.loads((data_path("results") / name).read_text(encoding="utf-8"))


def recorded(*names: str) -> list[dict]:
    """The runs of files in data/results; prints their commands, data and processor."""
    files = list(map(content, names))
    runs = [run for file in files for run in file["runs"]]
    commands = (file["command"] for file in files)
    print(*dict.fromkeys([*commands, *map(_where, runs)]), sep="\n")
    return runs


def _where(run: dict) -> str:
    kind = f" {run['format']}" if "format" in run else ""
    return f"{DATA_NAMES[run['data']]}{kind}; {run['device']}"


def grouped(runs: Iterable[dict], key: Callable[[dict], object]) -> dict:
    """Lists of runs that share the value of `key`, in order of appearance."""
    groups: dict = {}
    for run in runs:
        groups.setdefault(key(run), []).append(run)
    return groups


def final(runs: Iterable[dict], name: str = "test_acc") -> list[float]:
    """The last value that each run measured of `name`."""
    return [run[name][-1] if isinstance(run[name], list) else run[name] for run in runs]


def mean_sd(values: Iterable[float], digits: int = 1, scale: float = 100) -> str:
    """Mean and standard deviation over seeds, in percent: "63.4 ± 1.2"."""
    values = scale * torch.tensor(list(values), dtype=torch.float64)
    if len(values) < 2:
        return f"{values.mean():.{digits}f}"
    return f"{values.mean():.{digits}f} ± {values.std():.{digits}f}"
