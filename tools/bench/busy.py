"""Measure how much other programs on busy cores slow down a training step.

    python tools/bench/busy.py [small]

Steps of ResNet-18 (or of the small net) on a batch of 128, in bfloat16 with all usable
threads, with one thread, and in float32 with all, while 0, 1, … other processes count
in a loop, up to one on every core. Rounds alternate, and the median counts. The last
column is the rate of the first against the better of the other two.
"""

import multiprocessing
import statistics
import sys
import time

import torch
from torch import nn

from d2lext.compare import resnet18, small_net
from d2lext.multi_gpu import train_batch_ch13
from d2lext.runs import usable_cores

BATCH, ROUNDS, STEPS = 128, 5, 2


def count_forever() -> None:
    while True:
        pass


def main() -> None:
    cores = usable_cores()
    X, y = torch.rand(BATCH, 3, 32, 32), torch.randint(0, 10, (BATCH,))
    X = X.to(memory_format=torch.channels_last)
    net = small_net(X) if "small" in sys.argv else resnet18(10, 3)
    net = net.to(memory_format=torch.channels_last)
    weights = [p for p in net.parameters() if p.requires_grad]
    trainer = torch.optim.Adam(weights, fused=True)
    loss, cpu = nn.CrossEntropyLoss(reduction="none"), torch.device("cpu")
    ways = {
        f"bfloat16, {cores} threads": (cores, True),
        "bfloat16, 1 thread": (1, True),
        f"float32, {cores} threads": (cores, False),
    }

    def rate(threads: int, amp: bool) -> float:
        torch.set_num_threads(threads)
        train_batch_ch13(net, X, y, loss, trainer, [cpu], amp)
        start = time.perf_counter()
        for _ in range(STEPS):
            train_batch_ch13(net, X, y, loss, trainer, [cpu], amp)
        return STEPS * BATCH / (time.perf_counter() - start)

    print(f"{'busy cores':12}" + "".join(f"{way:>24}" for way in ways) + "   ratio")
    for busy in range(cores + 1):
        others = [
            multiprocessing.Process(target=count_forever, daemon=True)
            for _ in range(busy)
        ]
        for other in others:
            other.start()
        rounds = [[rate(*way) for way in ways.values()] for _ in range(ROUNDS)]
        for other in others:
            other.kill()
        first, *rest = map(statistics.median, zip(*rounds, strict=True))
        words = "".join(f"{r:20,.0f} ex/s" for r in (first, *rest))
        print(f"{busy:<12}{words}{first / max(rest):8.2f}", flush=True)


if __name__ == "__main__":
    main()
