"""Several processes on one CPU, started by torchrun as a reader would.

With a folder as its argument, this module is what each process does: it trains and
saves what it measured; process r writes r.pt.
"""

import contextlib
import multiprocessing
import os
import re
import socket
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader, TensorDataset

from d2lext import train
from d2lext.multi_gpu import (
    ShardedBatches,
    evaluate_accuracy_gpu,
    train_batch_ch13,
    train_ch13,
)
from d2lext.runs import read_runs
from tests import common
from tests.common import CPU, LOSS, flat, make_folder, points, rows, seeded, sgd

ROOT = Path(__file__).resolve().parent.parent
HOW = "--nproc-per-node=2 --rdzv-backend=c10d --rdzv-endpoint=localhost:0"
LAUNCH = [sys.executable, "-m", "torch.distributed.run", *HOW.split()]
LAUNCH += ["--local-addr=localhost", "-m"]
LIMIT = 120  # seconds for what takes ten on a quiet machine
TINY = ("--batch-size", "16", "--widths", "8", "8", "8")
SHARES = [[5, 3], [4, 3], [1, 6]]  # of three batches, between two processes
N, BATCH = 23, 8  # does not divide
CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(["d2lext.train"])  # processes then start fast


def make_net() -> nn.Module:
    """Without batch normalisation, which sees only a process's own share."""
    return common.make_net().double()


def make_data(n: int) -> tuple[torch.Tensor, torch.Tensor]:
    X = torch.rand(n, 3, 6, 6, dtype=torch.float64, generator=seeded(1))
    return X, torch.randint(0, 5, (n,), generator=seeded(1))


def train_steps(net: nn.Module, rank: int | None, **how) -> torch.Tensor:
    """The weights after steps on a process's shares, or on whole batches."""
    trainer = torch.optim.SGD(net.parameters(), lr=0.05, momentum=0.9)
    X, y = make_data(sum(map(sum, SHARES)))
    sizes = [sum(shares) for shares in SHARES]
    for *batch, shares in zip(X.split(sizes), y.split(sizes), SHARES, strict=True):
        if rank is not None:
            batch = [part.split(shares)[rank] for part in batch]
        train_batch_ch13(net, *batch, LOSS, trainer, CPU, **how)
    return flat(net)


def train_whole(net: nn.Module) -> list[tuple]:
    """The points of a run over all processes."""
    X, y = make_data(N)
    batches = ShardedBatches(N, BATCH, seed=3)
    train_iter = DataLoader(TensorDataset(X, y), batch_sampler=batches)
    test = ShardedBatches(N, BATCH, shuffle=False)
    test_iter = DataLoader(TensorDataset(X, y.roll(1)), batch_sampler=test)
    return points(train_ch13(net, train_iter, test_iter, LOSS, sgd(net, 0.05), 2))


def main() -> None:
    dist.init_process_group("gloo")
    rank, alone = dist.get_rank(), make_net()
    compiled = torch.compile(DistributedDataParallel(make_net()), backend="eager")
    saved = {
        "parallel": train_steps(DistributedDataParallel(make_net()), rank),
        "compiled": train_steps(compiled, rank),
        "points": train_whole(DistributedDataParallel(make_net())),
    }
    with pytest.raises(ValueError, match="net: its copies would diverge in 2 process"):
        train_steps(alone, None)
    saved["alone"] = train_steps(alone, None, sync=False)
    # Batch normalisation makes a parallel net talk to the others.
    net = nn.Sequential(make_net(), nn.BatchNorm1d(5).double())
    net = DistributedDataParallel(net)
    nets = (net, torch.compile(net, backend="eager")) if rank == 0 else ()
    saved["accuracies"] = [
        evaluate_accuracy_gpu(net, [make_data(N)], sync=False) for net in nets
    ]
    torch.save(saved, Path(sys.argv[1], f"{rank}.pt"))
    dist.destroy_process_group()


@pytest.fixture(scope="module")
def saved(tmp_path_factory) -> list[dict]:
    """What each of two processes measured."""
    out = tmp_path_factory.mktemp("ddp")
    command = [*LAUNCH, "tests.test_ddp", str(out)]
    env = os.environ | {"OMP_NUM_THREADS": "1", "D2LEXT_RUNS": ""}
    subprocess.run(command, check=True, timeout=LIMIT, env=env, cwd=ROOT)
    return [torch.load(out / f"{rank}.pt") for rank in range(2)]


@pytest.mark.parametrize("net", ["parallel", "compiled", "alone"])
def test_weights_equal_those_of_one_process(saved, net) -> None:
    weights = train_steps(make_net(), None)
    for process in saved:
        assert (process[net] - weights).abs().max() < 1e-10


def test_reported_numbers_are_of_all_processes(saved) -> None:
    one = train_whole(make_net())
    assert saved[0]["points"] == saved[1]["points"]
    for expected, point in zip(one, saved[0]["points"], strict=True):
        assert point == pytest.approx(expected, abs=1e-9)


def test_one_process_evaluates_alone(saved) -> None:
    net = torch.nn.Sequential(make_net(), torch.nn.BatchNorm1d(5).double())
    X, y = make_data(N)
    right = (net.eval()(X).argmax(1) == y).double().mean().item()
    assert saved[0]["accuracies"] == [right, right]


# The command


@pytest.fixture
def images(tmp_path: Path) -> Path:
    return make_folder(tmp_path / "images")


@pytest.fixture
def launched(images):
    """Start the command, and leave no process of it behind."""
    with contextlib.ExitStack() as stack:

        def launch(*options: str) -> psutil.Popen:
            command = [*LAUNCH, "d2lext.train", "--root", str(images), *TINY, *options]
            env = os.environ | {"OMP_NUM_THREADS": "1"}
            out = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
            process = stack.enter_context(psutil.Popen(command, env=env, **out))
            stack.callback(kill, process)
            return process

        yield launch


def wait_for(path: Path, process: psutil.Popen) -> None:
    end = time.monotonic() + LIMIT
    while not path.exists():
        assert process.poll() is None, process.stdout.read()
        assert time.monotonic() < end, f"no {path.name}"
        time.sleep(0.1)


def kill(process: psutil.Popen) -> None:
    with contextlib.suppress(psutil.NoSuchProcess):
        for one in (*process.children(), process):  # they are not of its group
            one.kill()


@pytest.mark.parametrize("who", ["a worker", "torchrun"])
def test_a_run_ends_with_any_process_and_is_resumed(images, launched, who) -> None:
    checkpoint = images.parent / "state.pt"
    options = ["--epochs", "100", "--checkpoint", str(checkpoint)]
    options += ["--mixup-alpha", "0.5", "--resume"]
    run = launched(*options)
    wait_for(checkpoint, run)
    workers = run.children()
    assert len(workers) == 2
    (run if who == "torchrun" else workers[1]).kill()
    out, _ = run.communicate(timeout=LIMIT)
    assert run.returncode != 0
    assert who == "torchrun" or "SIGKILL" in out or "Signal 9" in out
    assert psutil.wait_procs(workers, timeout=10)[1] == []  # none goes on writing
    done = len(torch.load(checkpoint)["history"])
    assert 1 <= done < 100

    again = launched(*options)
    out, _ = again.communicate(timeout=LIMIT)
    assert again.returncode == 0, out
    assert f"epoch {done + 1}/100:" in out and f"epoch {done}/100:" not in out
    run = read_runs()[-1]
    assert run["processes"] == 2 and len(run["test_acc"]) == 100
    counts, _, hits = zip(*run["bins"], strict=True)  # of both processes
    assert sum(counts) == 20 and sum(hits) == round(run["test_acc"][-1] * 20)


def run_command(rank: int, port: int, folder: Path, options: list[str]) -> None:
    """The training command in one of two processes, in a folder, with its output."""
    with Path(f"{folder}.log").open("w") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    os.chdir(folder)
    where = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": "2"}
    os.environ.update(where, RANK=str(rank), LOCAL_RANK="0")
    os.environ["D2LEXT_RUNS"] = str(folder.parent / "runs.jsonl")
    torch.set_num_threads(1)
    sys.exit(train.main(options))


def two(images, options: str, last: str = "") -> list[str]:
    """What two processes print that start in folders a and b; b has more options.

    They are started as torchrun starts them on two machines, with nothing shared.
    """
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    folders = [images.parent / name for name in "ab"]
    started = []
    for rank, (folder, more) in enumerate(zip(folders, ("", last), strict=True)):
        folder.mkdir(exist_ok=True)
        given = [*TINY, "--root", str(images), *options.split(), *more.split()]
        where = (rank, port, folder, given)
        started.append(CONTEXT.Process(target=run_command, args=where))
        started[-1].start()
    for process in started:
        process.join(LIMIT)
        process.kill()
    outputs = [Path(f"{folder}.log").read_text() for folder in folders]
    assert len({process.exitcode for process in started}) == 1, outputs
    return outputs


# The options of both, more of the second, and what both say.
ERRORS = r"""
--epochs 2                 | --root ../other   | train_images: .*disagree, 40 in pro
--epochs 2 --num-train 45  | --root ../other   | num_train: 45 wanted
--epochs 2                 | --root .          | root: no CIFAR-10 in
--epochs 2                 | --epochs 3        | epochs: .*disagree, 2 in .* 3 in
--epochs 2                 | --checkpoint x.pt | checkpoint: .*disagree, None in pro
--checkpoint y.pt --resume | --epochs 12       | checkpoint y.pt: cannot be read
"""


@rows("options last words", ERRORS)
def test_an_error_in_one_process_is_one_in_all(images, options, last, words):
    make_folder(images.parent / "other", train=5)
    (images.parent / "a").mkdir()
    (images.parent / "a/y.pt").touch()  # in the first one's folder
    for out in two(images, options, last):
        assert re.search(words, out), out
        assert "epoch 1/" not in out and "Traceback" not in out, out
    assert read_runs() == []


def test_the_first_process_decides_on_checkpoint_and_results(images) -> None:
    """Two processes in two folders, of which the second has neither file."""
    a, b = (images.parent / name for name in "ab")
    options = "--epochs 4 --checkpoint state.pt --resume --results runs.json"
    two(images, options)
    assert not (b / "state.pt").exists()
    saved = torch.load(a / "state.pt")
    saved["history"] = saved["history"][:3]  # as if it had been killed
    saved["scheduler"]["last_epoch"] -= 3  # steps
    torch.save(saved, a / "state.pt")
    (a / "runs.json").unlink()
    first, second = two(images, options)
    assert "epoch 4/4" in first and "epoch 3/4" not in first and "epoch" not in second
    assert [run["processes"] for run in read_runs()] == [2, 2]
    (b / "runs.json").write_text("of somebody else")
    first, _ = two(images, options)
    assert "already in runs.json: 1 of 1 runs" in first and len(read_runs()) == 2


if __name__ == "__main__":
    main()
