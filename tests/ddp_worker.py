"""What each of several processes does for tests/test_ddp.py: train, and save it.

Started by torchrun with a folder as its argument; process r writes r.pt there.
"""

import os
import sys
from pathlib import Path

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

SHARES = [(5, 3), (4, 3), (1, 6)]  # of three batches, between two processes
N, BATCH = 23, 8  # does not divide
LOSS = nn.CrossEntropyLoss(reduction="none")
CPU = [torch.device("cpu")]


def make_net() -> nn.Module:
    """Without batch normalisation, which sees only a process's own share."""
    torch.manual_seed(0)
    layers = nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(144, 10)
    return nn.Sequential(*layers).double()


def make_data(n: int) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    X = torch.rand(n, 3, 8, 8, dtype=torch.float64, generator=generator)
    return X, torch.randint(0, 10, (n,), generator=generator)


def flat(net: nn.Module, of=lambda p: p.detach()) -> torch.Tensor:
    return torch.cat([of(p).flatten() for p in net.parameters()])


def train_steps(net: nn.Module, rank: int | None, **how) -> list[torch.Tensor]:
    """The gradients of three steps: of this process's shares, or of whole batches."""
    trainer = torch.optim.SGD(net.parameters(), lr=0.05, momentum=0.9)
    X, y = make_data(sum(map(sum, SHARES)))
    gradients, start = [], 0
    for shares in SHARES:
        begin, end = start, start + sum(shares)
        start = end
        if rank is not None:
            begin += sum(shares[:rank])
            end = begin + shares[rank]
        train_batch_ch13(net, X[begin:end], y[begin:end], LOSS, trainer, CPU, **how)
        gradients.append(flat(net, lambda p: p.grad).clone())
    return gradients


def train_whole(net: nn.Module, epochs: int = 2) -> list[tuple]:
    """The points of a run over all processes."""
    X, y = make_data(N)
    batches = ShardedBatches(N, BATCH, seed=3)
    train_iter = DataLoader(TensorDataset(X, y), batch_sampler=batches)
    test = ShardedBatches(N, BATCH, shuffle=False)
    test_iter = DataLoader(TensorDataset(X, y.roll(1)), batch_sampler=test)
    trainer = torch.optim.SGD(net.parameters(), lr=0.05)
    points = train_ch13(net, train_iter, test_iter, LOSS, trainer, epochs)
    return [tuple(point[:5]) for point in points]


def train_alone(net: nn.Module) -> tuple[str, torch.Tensor]:
    """What a step says of a net that no one wraps, and what it trains if told to."""
    try:
        train_steps(net, None)
        words = "no error"
    except ValueError as error:
        words = str(error)
    train_steps(net, None, sync=False)
    return words, flat(net)


def evaluate_alone(rank: int) -> list[float]:
    """On one process; batch normalisation makes a parallel net talk to the others."""
    net = DistributedDataParallel(
        nn.Sequential(*make_net(), nn.BatchNorm1d(10).double())
    )
    nets = (net, torch.compile(net, backend="eager")) if rank == 0 else ()
    return [evaluate_accuracy_gpu(net, [make_data(N)], sync=False) for net in nets]


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


def main() -> None:
    dist.init_process_group("gloo")
    rank = dist.get_rank()
    net = DistributedDataParallel(make_net())
    gradients = train_steps(net, rank)
    compiled = torch.compile(DistributedDataParallel(make_net()), backend="eager")
    saved = {
        "weights": flat(net),
        "gradients": gradients,
        "points": train_whole(DistributedDataParallel(make_net())),
        "compiled": train_steps(compiled, rank),
        "alone": train_alone(make_net()),
        "accuracies": evaluate_alone(rank),
    }
    torch.save(saved, Path(sys.argv[1], f"{rank}.pt"))
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
