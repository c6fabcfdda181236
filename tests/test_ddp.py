"""Several processes on one CPU, started by torchrun as a reader would."""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest
import torch
from PIL import Image

from d2lext.images import CLASSES
from tests import ddp_worker as worker

ROOT = Path(__file__).resolve().parent.parent
LAUNCH = [
    *(sys.executable, "-m", "torch.distributed.run", "--nproc-per-node=2"),
    *("--rdzv-backend=c10d", "--rdzv-endpoint=localhost:0", "--local-addr=localhost"),
]
pytestmark = pytest.mark.skipif(
    not Path("/proc").exists(), reason="looks for processes where Linux lists them"
)
LIMIT = 120  # seconds for what takes ten on a quiet machine


def environment(**more: str) -> dict[str, str]:
    paths = [str(ROOT), os.environ.get("PYTHONPATH", "")]
    path = os.pathsep.join(filter(None, paths))
    return os.environ | {"PYTHONPATH": path, "OMP_NUM_THREADS": "1"} | more


@pytest.fixture(scope="module")
def saved(tmp_path_factory) -> list[dict]:
    """What each of two processes measured."""
    out = tmp_path_factory.mktemp("ddp")
    command = [*LAUNCH, worker.__file__, str(out)]
    subprocess.run(command, check=True, timeout=LIMIT, env=environment(), cwd=out)
    return [torch.load(out / f"{rank}.pt") for rank in range(2)]


def test_weights_equal_those_of_one_process(saved) -> None:
    net = worker.make_net()
    worker.train_steps(net, None)
    for process in saved:
        difference = (process["weights"] - worker.flat(net)).abs().max()
        assert difference < 1e-10


def test_gradient_is_that_of_all_examples_also_with_unequal_shares(saved) -> None:
    """Divided by the count of all, it is the gradient of the mean loss over all."""
    net = worker.make_net()
    count = sum(worker.SHARES[0])
    X, y = (data[:count] for data in worker.make_data(sum(map(sum, worker.SHARES))))
    torch.nn.functional.cross_entropy(net(X), y).backward()
    mean = worker.flat(net, lambda p: p.grad)
    for process in saved:
        assert torch.allclose(process["gradients"][0] / count, mean, atol=1e-12)


def test_every_example_once_an_epoch_though_the_count_does_not_divide(saved) -> None:
    epochs = list(zip(*(process["seen"] for process in saved), strict=True))
    for shares in epochs:
        assert Counter(i for share in shares for i in share) == Counter(range(worker.N))
    assert epochs[0] != epochs[1]


def test_reported_numbers_are_of_all_processes(saved) -> None:
    one, _ = worker.train_whole(worker.make_net())
    assert saved[0]["points"] == saved[1]["points"]
    for expected, point in zip(one, saved[0]["points"], strict=True):
        assert point == pytest.approx(expected, abs=1e-9)


# The command


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """A folder that `read_cifar10` takes for CIFAR-10, with very few pictures."""
    for split, count in (("train", 4), ("test", 2)):
        for label, name in enumerate(CLASSES):
            folder = tmp_path / "pictures" / split / name
            folder.mkdir(parents=True)
            for i in range(count):
                color = (25 * label, 60 * i, 255 - 25 * label)
                Image.new("RGB", (32, 32), color).save(folder / f"{i}.png")
    return tmp_path / "pictures"


def start(pictures: Path, *options: str, launch=LAUNCH) -> subprocess.Popen:
    command = [*launch, "-m", "d2lext.train", "--root", str(pictures)]
    command += ["--batch-size", "16", "--widths", "8", "8", "8", *options]
    return subprocess.Popen(
        command,
        env=environment(D2LEXT_RUNS=str(pictures / "runs.jsonl")),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


@pytest.fixture
def launched():
    """Start the command, and leave no process of it behind."""
    processes = []

    def launch(*args, **more) -> subprocess.Popen:
        processes.append(start(*args, **more))
        return processes[-1]

    yield launch
    for process in processes:
        kill(process)
        process.wait()


def wait_for(path: Path, process: subprocess.Popen) -> None:
    end = time.monotonic() + LIMIT
    while not path.exists():
        assert process.poll() is None, process.stdout.read()
        assert time.monotonic() < end, f"no {path.name}"
        time.sleep(0.1)


def children(pid: int) -> list[int]:
    path = Path("/proc", str(pid), "task", str(pid), "children")
    return list(map(int, path.read_text().split())) if path.exists() else []


def kill(process: subprocess.Popen) -> None:
    """At once, and with the processes that it started, which are not of its group."""
    for pid in (*children(process.pid), process.pid):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def test_a_process_that_dies_ends_the_run(pictures: Path, launched) -> None:
    checkpoint = pictures / "state.pt"
    options = ("--epochs", "100000", "--checkpoint", str(checkpoint))
    run = launched(pictures, *options)
    wait_for(checkpoint, run)
    workers = children(run.pid)
    assert len(workers) == 2
    os.kill(workers[1], signal.SIGKILL)
    out, _ = run.communicate(timeout=LIMIT)
    assert run.returncode != 0
    assert "SIGKILL" in out or "Signal 9" in out
    assert not any(Path("/proc", str(pid)).exists() for pid in workers)


def test_a_killed_run_is_resumed(pictures: Path, launched) -> None:
    checkpoint = pictures / "state.pt"
    options = ["--epochs", "60", "--checkpoint", str(checkpoint)]
    options += ["--mixup-alpha", "0.5"]
    run = launched(pictures, *options)
    wait_for(checkpoint, run)
    kill(run)
    run.communicate()
    done = len(torch.load(checkpoint, weights_only=True)["history"])
    assert 1 <= done < 60

    again = launched(pictures, *options, "--resume")
    out, _ = again.communicate(timeout=LIMIT)
    assert again.returncode == 0, out
    assert f"epoch {done + 1}/60:" in out and f"epoch {done}/60:" not in out
    recorded = json.loads((pictures / "runs.jsonl").read_text().splitlines()[-1])
    assert recorded["processes"] == 2
    assert len(recorded["test_acc"]) == 60
    counts, _, hits = zip(*recorded["bins"], strict=True)  # of both processes
    assert sum(counts) == 20 and sum(hits) == round(recorded["test_acc"][-1] * 20)


@pytest.mark.slow
def test_two_machines_train_one_net(pictures: Path, launched) -> None:
    """Two torchruns of one process each, which find each other as machines do."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    launch = [
        *(sys.executable, "-m", "torch.distributed.run", "--nnodes=2"),
        *("--nproc-per-node=1", "--rdzv-backend=c10d", "--local-addr=localhost"),
        f"--rdzv-endpoint=localhost:{port}",
    ]
    options = ["--epochs", "3"]
    machines = [launched(pictures, *options, launch=launch) for _ in range(2)]
    outputs = [machine.communicate(timeout=2 * LIMIT)[0] for machine in machines]
    assert [machine.returncode for machine in machines] == [0, 0], outputs
    assert sorted("epoch 3/3:" in out for out in outputs) == [False, True]
    recorded = [
        json.loads(line) for line in (pictures / "runs.jsonl").read_text().splitlines()
    ]
    assert [run["processes"] for run in recorded] == [2]
    counts, *_ = zip(*recorded[0]["bins"], strict=True)
    assert sum(counts) == 20
