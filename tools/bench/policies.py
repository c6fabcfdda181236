"""What the augmentation of each rung of the ladder costs, per picture.

    python tools/bench/policies.py [--results FILE]

Microseconds for a picture of a batch of 128, from the data set alone; without what the
taking of plain pictures costs (the rung "none"), which is listed as itself. Mixing is
measured on the ready batch.
"""

import argparse
import json
import os
import statistics
import time
from pathlib import Path

import torch

from d2lext.compare import augmentations
from d2lext.images import read_cifar10
from d2lext.mixup import cutmix_data, mixup_data
from d2lext.multi_gpu import try_all_gpus
from d2lext.runs import hardware
from tools.experiments.ladder import RUNGS

BATCH, ROUNDS = 128, 15


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--results", type=Path)
    args = parser.parse_args()
    os.environ["D2LEXT_CIFAR10"] = "sample"
    X, y, *_ = read_cifar10(True)
    datasets = {}
    for name, rung in RUNGS.items():
        alphas = {mixup_data: "mixup_alpha", cutmix_data: "cutmix_alpha"}
        mixes = {mix: rung[a] for mix, a in alphas.items() if a in rung}
        datasets[name] = augmentations(rung["policy"]).dataset(X, y), mixes
    seconds = {name: [] for name in datasets}
    for _ in range(ROUNDS):  # in turn, so that all meet the same disturbances
        for name, (dataset, mixes) in datasets.items():
            i = torch.randint(len(y), (BATCH,)).tolist()
            start = time.perf_counter()
            Xb, yb = dataset.batch(i)
            if mixes:  # one of them, by chance
                way = list(mixes.items())[len(seconds[name]) % len(mixes)]
                way[0](Xb, yb, way[1])
            seconds[name].append(time.perf_counter() - start)
    costs = {n: 1e6 * statistics.median(s) / BATCH for n, s in seconds.items()}
    costs = {n: c if n == "none" else c - costs["none"] for n, c in costs.items()}
    for name, cost in costs.items():
        print(f"{name:18}{cost:8.1f} us a picture")
    if args.results:
        command = f"python tools/bench/policies.py --results {args.results}"
        rounded = {name: round(cost, 2) for name, cost in costs.items()}
        about = hardware(try_all_gpus()[0])
        text = json.dumps(
            {"command": command, "microseconds": rounded, **about}, indent=1
        )
        args.results.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
