"""Several processes on one CPU, started by torchrun as a reader would."""

import contextlib
import json
import multiprocessing
import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
import torch

from tests import ddp_worker as worker
from tests.tiny_images import make_folder

ROOT = Path(__file__).resolve().parent.parent
LAUNCH = [
    *(sys.executable, "-m", "torch.distributed.run", "--nproc-per-node=2"),
    *("--rdzv-backend=c10d", "--rdzv-endpoint=localhost:0", "--local-addr=localhost"),
]
LIMIT = 120  # seconds for what takes ten on a quiet machine
TINY = ("--batch-size", "16", "--widths", "8", "8", "8")


def environment(**more: str) -> dict[str, str]:
    paths = [str(ROOT), os.environ.get("PYTHONPATH", "")]
    path = os.pathsep.join(filter(None, paths))
    return os.environ | {"PYTHONPATH": path, "OMP_NUM_THREADS": "1"} | more


@pytest.fixture(scope="module")
def saved(tmp_path_factory) -> list[dict]:
    """What each of two processes measured."""
    out = tmp_path_factory.mktemp("ddp")
    command = [*LAUNCH, worker.__file__, str(out)]
    subprocess.run(
        command, check=True, timeout=LIMIT, env=environment(D2LEXT_RUNS=""), cwd=out
    )
    return [torch.load(out / f"{rank}.pt") for rank in range(2)]


def test_weights_equal_those_of_one_process(saved) -> None:
    net = worker.make_net()
    worker.train_steps(net, None)
    for process in saved:
        difference = (process["weights"] - worker.flat(net)).abs().max()
        assert difference < 1e-10


def test_reported_numbers_are_of_all_processes(saved, monkeypatch) -> None:
    monkeypatch.setenv("D2LEXT_RUNS", "")
    one = worker.train_whole(worker.make_net())
    assert saved[0]["points"] == saved[1]["points"]
    for expected, point in zip(one, saved[0]["points"], strict=True):
        assert point == pytest.approx(expected, abs=1e-9)


def test_a_compiled_net_steps_like_the_net_in_it(saved) -> None:
    for process in saved:
        pairs = zip(process["compiled"], process["gradients"], strict=True)
        assert all(torch.allclose(a, b, atol=1e-12) for a, b in pairs)


def test_a_net_that_is_not_parallel_is_refused_unless_meant(saved) -> None:
    net = worker.make_net()
    worker.train_steps(net, None)
    for process in saved:
        words, weights = process["alone"]
        assert words.startswith("net: its copies would diverge in 2 processes")
        assert torch.allclose(weights, worker.flat(net), atol=1e-10)


def test_one_process_evaluates_alone(saved) -> None:
    net = torch.nn.Sequential(*worker.make_net(), torch.nn.BatchNorm1d(10).double())
    X, y = worker.make_data(worker.N)
    right = (net.eval()(X).argmax(1) == y).double().mean().item()
    assert saved[0]["accuracies"] == [right, right]


# The command


@pytest.fixture
def images(tmp_path: Path) -> Path:
    return make_folder(tmp_path / "images")


@pytest.fixture
def launched(images):
    """Start the command, and leave no process of it behind."""
    processes = []

    def launch(*options: str) -> subprocess.Popen:
        command = [*LAUNCH, "-m", "d2lext.train", "--root", str(images), *TINY]
        process = subprocess.Popen(
            [*command, *options],
            env=environment(D2LEXT_RUNS=str(images.parent / "runs.jsonl")),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        processes.append(process)
        return process

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


def children(process: subprocess.Popen) -> list[psutil.Process]:
    """Those that it has started, which are not of its group."""
    with contextlib.suppress(psutil.NoSuchProcess):
        return psutil.Process(process.pid).children()
    return []


def kill(process: subprocess.Popen) -> None:
    for one in (*children(process), process):
        with contextlib.suppress(psutil.NoSuchProcess):
            one.kill()


def recorded(images: Path) -> list[dict]:
    file = images.parent / "runs.jsonl"
    return list(map(json.loads, file.read_text().splitlines())) if file.exists() else []


@pytest.mark.parametrize("who", ["a worker", "torchrun"])
def test_a_process_that_dies_ends_the_run(images: Path, launched, who) -> None:
    checkpoint = images.parent / "state.pt"
    options = ("--epochs", "100000", "--checkpoint", str(checkpoint))
    run = launched(*options)
    wait_for(checkpoint, run)
    workers = children(run)
    assert len(workers) == 2
    if who == "torchrun":
        run.kill()
    else:
        workers[1].kill()
        out, _ = run.communicate(timeout=LIMIT)
        assert run.returncode != 0 and ("SIGKILL" in out or "Signal 9" in out)
    assert psutil.wait_procs(workers, timeout=10)[1] == []  # none goes on writing


def test_a_killed_run_is_resumed(images: Path, launched) -> None:
    checkpoint = images.parent / "state.pt"
    options = ["--epochs", "60", "--checkpoint", str(checkpoint)]
    options += ["--mixup-alpha", "0.5", "--resume"]
    run = launched(*options)
    wait_for(checkpoint, run)
    kill(run)
    run.communicate()
    done = len(torch.load(checkpoint, weights_only=True)["history"])
    assert 1 <= done < 60

    again = launched(*options)
    out, _ = again.communicate(timeout=LIMIT)
    assert again.returncode == 0, out
    assert f"epoch {done + 1}/60:" in out and f"epoch {done}/60:" not in out
    run = recorded(images)[-1]
    assert run["processes"] == 2
    assert len(run["test_acc"]) == 60
    counts, _, hits = zip(*run["bins"], strict=True)  # of both processes
    assert sum(counts) == 20 and sum(hits) == round(run["test_acc"][-1] * 20)


@pytest.fixture(scope="module")
def context():
    """Starts processes that have imported torch already."""
    made = multiprocessing.get_context("forkserver")
    made.set_forkserver_preload([worker.__name__])
    return made


def two(context, folders, images, *options: str, last=()) -> list[str]:
    """What two processes print that start in two folders; the second has more options.

    They are started as torchrun starts them on two machines, with nothing shared.
    """
    started = []
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    for rank, (folder, root) in enumerate(zip(folders, images, strict=True)):
        folder.mkdir(exist_ok=True)
        given = [*TINY, "--root", str(root), *options, *(last if rank else ())]
        process = context.Process(
            target=worker.run_command, args=(rank, port, folder, given)
        )
        process.start()
        started.append(process)
    for process in started:
        process.join(LIMIT)
        process.kill()
    outputs = [Path(f"{folder}.log").read_text() for folder in folders]
    assert len({process.exitcode for process in started}) == 1, outputs
    return outputs


@pytest.mark.parametrize(
    ("case", "words"),
    [
        ("other images", "train_images: the processes disagree, 40 in process 0 and"),
        ("too few images", "num_train: 45 wanted"),
        ("no images", "root: no CIFAR-10 in "),
        ("other options", "epochs: the processes disagree, 2 in process 0 and 3 in"),
        ("other files", "checkpoint: the processes disagree, None in process 0"),
        ("junk", "checkpoint state.pt: cannot be read"),
    ],
)
def test_an_error_in_one_process_is_one_in_all(images, tmp_path, context, case, words):
    folders, roots = (tmp_path / "a", tmp_path / "b"), [images, images]
    options, last = ["--epochs", "2"], {"other options": ("--epochs", "3")}
    last["other files"] = ("--checkpoint", "state.pt")
    options += ["--num-train", "45"] if case == "too few images" else []
    if case in ("other images", "too few images"):
        roots[1] = make_folder(tmp_path / "other", train=5)
    elif case == "no images":
        roots[1] = folders[1]
    elif case == "junk":
        folders[0].mkdir()
        (folders[0] / "state.pt").touch()
        options += ["--checkpoint", "state.pt", "--resume"]
    for out in two(context, folders, roots, *options, last=last.get(case, ())):
        assert words in out and "epoch 1/" not in out and "Traceback" not in out, out
    assert recorded(images) == []


def test_the_first_process_decides_on_checkpoint_and_results(
    images, tmp_path, context
) -> None:
    """Two processes in two folders, of which the second has neither file."""
    folders, roots = (tmp_path / "a", tmp_path / "b"), (images, images)
    options = ("--epochs", "4", "--checkpoint", "state.pt", "--resume")
    options += ("--results", "runs.json")
    two(context, folders, roots, *options)
    assert not (folders[1] / "state.pt").exists()
    file = folders[0] / "state.pt"
    saved = torch.load(file)
    saved["history"] = saved["history"][:3]  # as if it had been killed
    saved["scheduler"]["last_epoch"] -= 3  # steps
    torch.save(saved, file)
    (folders[0] / "runs.json").unlink()
    first, second = two(context, folders, roots, *options)
    assert "epoch 4/4" in first and "epoch 3/4" not in first and "epoch" not in second
    assert [run["processes"] for run in recorded(images)] == [2, 2]
    (folders[1] / "runs.json").write_text("of somebody else")
    first, _ = two(context, folders, roots, *options)
    assert "already in runs.json: 1 of 1 runs" in first and len(recorded(images)) == 2
