"""Time the chapter's own training step, and estimate its ten epochs here.

    python tools/bench/chapter.py [--results FILE]

Times the book's `train_batch_ch13` on its ResNet-18: batches of 256, float32. The time
of ten epochs is extrapolated, and covers training alone.
"""

import argparse
import json
import statistics
import time
from pathlib import Path

import torch
from d2l import torch as book
from torch import nn

from d2lext.multi_gpu import try_all_gpus
from d2lext.runs import hardware

STEPS, EPOCHS, IMAGES = 5, 10, 50_000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--results", type=Path)
    args = parser.parse_args()
    devices = try_all_gpus()
    torch.manual_seed(0)
    net = book.resnet18(10, 3)
    X, y = torch.rand(256, 3, 32, 32), torch.randint(0, 10, (256,))
    net(X[:2])  # gives the lazy layers weights
    net = nn.DataParallel(net, device_ids=devices if devices[0].type == "cuda" else [])
    net = net.to(devices[0])
    trainer = torch.optim.Adam(net.parameters(), lr=0.001)
    loss = nn.CrossEntropyLoss(reduction="none")
    seconds = []
    for _ in range(STEPS + 1):
        start = time.perf_counter()
        l, _ = book.train_batch_ch13(net, X, y, loss, trainer, devices)
        l.item()  # waits for the device
        seconds.append(time.perf_counter() - start)
    rates = [len(X) / s for s in seconds[1:]]  # the first step warms up
    rate = statistics.median(rates)
    result = {
        "examples_per_second": [round(r, 1) for r in rates],
        "median": round(rate, 1),
        "ten_epochs_seconds": round(EPOCHS * IMAGES / rate),
        **hardware(devices[0]),
    }
    print(
        f"the chapter's step: {rate:,.1f} examples/s, median of {STEPS}; ten epochs "
        f"would take {result['ten_epochs_seconds'] / 60:,.0f} minutes (extrapolated)"
    )
    if args.results:
        command = f"python tools/bench/chapter.py --results {args.results}"
        text = json.dumps({"command": command, **result}, indent=1)
        args.results.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
