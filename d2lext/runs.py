"""Keep what every training run measured: one line of JSON each.

Runs are added to `data/runs.jsonl`, which git ignores. The variable D2LEXT_RUNS names
another file; empty, it keeps nothing.
"""

import json
import os
import platform
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path

import torch
import torchvision

from d2lext.images import data_path
from d2lext.places import DATA

VARIABLE = "D2LEXT_RUNS"
DATA_NAMES = {  # by the kind of their source
    "sample": "the bundled sample",
    "official": "CIFAR-10",
    "folder": "CIFAR-10 as a folder of images",
}


def runs_file() -> Path | None:
    """The file that runs are added to; None if they are not to be kept."""
    name = os.environ.get(VARIABLE, str(DATA / "runs.jsonl"))
    return Path(name).expanduser() if name else None


def hardware(device: torch.device) -> dict:
    """What a time was measured on, and with which versions."""
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


def _processor() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass  # not on Linux
    return platform.processor() or platform.machine()


def describe(net: torch.nn.Module, train_iter, device: torch.device) -> dict:
    """What was trained, on which data and where, ready for JSON."""
    dataset = getattr(train_iter, "dataset", train_iter)
    source = getattr(dataset, "source", type(dataset).__name__)
    return {
        "net": type(net).__name__,
        "parameters": sum(p.numel() for p in net.parameters()),
        "data": getattr(source, "kind", source),
        "num_train": len(dataset),
        "batches": len(train_iter),
        "seed": torch.initial_seed(),
        **hardware(device),
    }


def curves(history: Iterable) -> dict:
    """The numbers of a `History` at the ends of its epochs, ready for JSON."""
    ends = [p for p in history if p.test_acc is not None]
    return {
        "epochs": len(ends),
        "loss": [round(p.loss, 5) for p in ends],
        "train_acc": [round(p.train_acc, 5) for p in ends],
        "test_acc": [round(p.test_acc, 5) for p in ends],
        "examples": ends[-1].examples if ends else 0,
        "seconds": round(ends[-1].seconds, 2) if ends else 0,
    }


def record_run(run: dict) -> None:
    """Add a run to the file; where that cannot be done, print a note."""
    path = runs_file()
    if path is None:
        return
    line = json.dumps({"time": time.strftime("%Y-%m-%dT%H:%M:%S"), **run}) + "\n"
    try:
        if DATA in path.parents:
            DATA.mkdir(parents=True, exist_ok=True)
        # One write to a file opened for appending: lines of many kernels do not mix.
        with path.open("ab", buffering=0) as file:
            file.write(line.encode())
    except OSError as error:
        print(f"note: the run was not kept in {path} ({error})", file=sys.stderr)


def read_runs(path: str | os.PathLike | None = None) -> list[dict]:
    """All runs that were kept, oldest first; a line that is not JSON is left out."""
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


# Recorded runs, for lessons


def content(name: str) -> dict:
    """A file of data/results."""
    return json.loads((data_path("results") / name).read_text(encoding="utf-8"))


def recorded(*names: str) -> list[dict]:
    """The runs of files in data/results; prints their commands, data and processor."""
    files = list(map(content, names))
    runs = [run for file in files for run in file["runs"]]
    commands = (file["command"] for file in files)
    print(*dict.fromkeys([*commands, *map(_where, runs)]), sep="\n")
    return runs


def _where(run: dict) -> str:
    kind = f" ({run['format']})" if "format" in run else ""
    return f"{DATA_NAMES[run['data']]}{kind}; {run['device']}"


def grouped(runs: Iterable[dict], key: Callable[[dict], object]) -> dict:
    """Lists of runs by what `key` says of each, in order of appearance."""
    groups: dict = {}
    for run in runs:
        groups.setdefault(key(run), []).append(run)
    return groups


def final(runs: Iterable[dict], name: str = "test_acc") -> list[float]:
    """What each run measured in the end, by name."""
    return [run[name][-1] if isinstance(run[name], list) else run[name] for run in runs]


def mean_sd(values: Iterable[float], digits: int = 1, scale: float = 100) -> str:
    """Mean and standard deviation over seeds, in percent: "63.4 ± 1.2"."""
    values = scale * torch.tensor(list(values), dtype=torch.float64)
    if len(values) < 2:
        return f"{values.mean():.{digits}f}"
    return f"{values.mean():.{digits}f} ± {values.std():.{digits}f}"
