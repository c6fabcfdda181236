"""Measure how much other programs on busy cores slow down a training step.

    python -m tools.bench.busy [small] [--results FILE]

Steps of ResNet-18 (or of the small net) on a batch of 128: as the course trains, in
bfloat16 with threads as d2lext.threads chooses them; in bfloat16 with all usable
threads, and with one; and in float32 with all, while 0, 1, … other processes count in
a loop, up to one on every core. Rounds alternate. The last column is the rate of the
first against the better of the last two.
"""

import argparse
import json
import multiprocessing
import statistics
import time
from pathlib import Path

import torch
from torch import nn

from d2lext.compare import resnet18, small_net
from d2lext.multi_gpu import train_batch_ch13
from d2lext.runs import hardware, usable_cores
from d2lext.threads import FreeCores

BATCH, ROUNDS = 128, 5


def count_forever() -> None:
    while True:
        pass


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("net", nargs="?", choices=("resnet18", "small"))
    parser.add_argument("--results", type=Path)
    args = parser.parse_args()
    cores = usable_cores()
    X, y = torch.rand(BATCH, 3, 32, 32), torch.randint(0, 10, (BATCH,))
    X = X.to(memory_format=torch.channels_last)
    net = small_net(X) if args.net == "small" else resnet18(10, 3)
    net = net.to(memory_format=torch.channels_last)
    weights = [p for p in net.parameters() if p.requires_grad]
    trainer = torch.optim.Adam(weights, fused=True)
    loss, cpu = nn.CrossEntropyLoss(reduction="none"), torch.device("cpu")

    def seconds(step, threads: int, amp: bool, steps: int) -> float:
        """Of a step, on average."""
        torch.set_num_threads(threads)
        step(net, X, y, loss, trainer, [cpu], amp)
        start = time.perf_counter()
        for _ in range(steps):
            step(net, X, y, loss, trainer, [cpu], amp)
        return (time.perf_counter() - start) / steps

    table = []
    for busy in range(cores + 1):
        ways = {  # step, threads, bfloat16, steps in a round
            "as the course": (FreeCores(train_batch_ch13), cores, True, 8),
            f"bfloat16, {cores} threads": (train_batch_ch13, cores, True, 2),
            "bfloat16, 1 thread": (train_batch_ch13, 1, True, 2),
            f"float32, {cores} threads": (train_batch_ch13, cores, False, 2),
        }
        if not busy:
            print("busy cores  ", *(f"{way:>23}" for way in ways), "  ratio")
        others = [
            multiprocessing.Process(target=count_forever, daemon=True)
            for _ in range(busy)
        ]
        for other in others:
            other.start()
        rounds = [[seconds(*way) for way in ways.values()] for _ in range(ROUNDS)]
        for other in others:
            other.kill()
        rates = [BATCH / statistics.mean(s) for s in zip(*rounds, strict=True)]
        words = "".join(f"{r:19,.0f} ex/s" for r in rates)
        print(f"{busy:<12}{words}{rates[0] / max(rates[2:]):8.2f}", flush=True)
        rates = map(round, rates)
        table.append({"busy cores": busy} | dict(zip(ways, rates, strict=True)))
    if args.results:
        net = args.net or "resnet18"
        command = f"python -m tools.bench.busy {net} --results {args.results}"
        about = {"command": command, "net": net} | hardware(cpu)
        text = json.dumps(about | {"runs": table}, indent=1)
        args.results.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
