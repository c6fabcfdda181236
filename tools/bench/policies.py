"""Measure the cost per image of each policy of the ladder.

    python -m tools.bench.policies [--results FILE]

The policies are those of data/results/cifar10_ladder.json. Microseconds for an image of
a batch of 128, from the data set alone, less the cost of plain images (policy none),
which is listed, too. Mixing is measured on the finished batch.
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
from d2lext.runs import content, hardware

BATCH, ROUNDS = 128, 15
KEYS = ("policy", "mixup_alpha", "cutmix_alpha")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--results", type=Path)
    args = parser.parse_args()
    os.environ["D2LEXT_CIFAR10"] = "sample"
    X, y, *_ = read_cifar10(True)
    runs = content("cifar10_ladder.json")["runs"]
    ways = dict.fromkeys(tuple(run[key] for key in KEYS) for run in runs)
    datasets = {way: augmentations(way[0]).dataset(X, y) for way in ways}
    seconds = {way: [] for way in ways}
    for turn in range(ROUNDS):  # in turn, so that disturbances affect all alike
        for way, dataset in datasets.items():
            alphas = zip((mixup_data, cutmix_data), way[1:], strict=True)
            mixes = [(mix, alpha) for mix, alpha in alphas if alpha]
            i = torch.randint(len(y), (BATCH,)).tolist()
            start = time.perf_counter()
            Xb, yb = dataset.batch(i)
            if mixes:  # one of them, by turns
                mix, alpha = mixes[turn % len(mixes)]
                mix(Xb, yb, alpha)
            seconds[way].append(time.perf_counter() - start)
    costs = {way: 1e6 * statistics.median(s) / BATCH for way, s in seconds.items()}
    none = costs["none", 0, 0]
    about = hardware(try_all_gpus()[0])
    rows = []
    for way, cost in costs.items():
        cost = round(cost if way == ("none", 0, 0) else cost - none, 2)
        rows.append(dict(zip(KEYS, way, strict=True)) | {"microseconds": cost} | about)
        print(f"{way!s:46}{cost:8.1f} us an image")
    if args.results:
        command = f"python -m tools.bench.policies --results {args.results}"
        lines = ",\n".join(map(json.dumps, rows))
        text = f'{{"command": {json.dumps(command)}, "runs": [\n{lines}\n]}}\n'
        args.results.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
