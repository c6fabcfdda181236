"""Compare the speed of whole-batch augmentation with that of the book's loader.

Prints, for each policy and loader: images a second by the wall and per CPU-second
(workers included), the ratios to the book's loader at its best number of workers, and
the time to the first batch. Rounds alternate between the loaders, and the median
counts, so that other work on the machine slows all of them. Random images of
CIFAR-10's size; all through `DataLoader`, shuffled, in batches of 256. Whole batches
are timed with torch's own number of threads and with one, since threads that wait for
each other on a busy machine burn CPU time.
"""

import os
import statistics
import time
import warnings
from collections.abc import Callable

import torch
from PIL import Image
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms

from d2lext import augment, batch

N = 20_000
SIZE = 256
ROUNDS = 3
WORKERS = (0, 2, 4)
# An epoch of whole batches takes a fraction of a second, too little to time.
EPOCHS = {"flip": 12, "flip, crop": 8, "flip, jitter, resized crop": 2}


def policies(module) -> dict[str, list[Callable]]:
    """The policies, from torchvision or from the module that has its names."""
    flip = module.RandomHorizontalFlip()
    jitter = module.ColorJitter(0.5, 0.5, 0.5, 0.5)
    resized = module.RandomResizedCrop(32, scale=(0.1, 1), ratio=(0.5, 2))
    return {
        "flip": [flip],
        "flip, crop": [flip, module.RandomCrop(32, padding=4)],
        "flip, jitter, resized crop": [flip, jitter, resized],
    }


class OneByOne(Dataset):
    """The book's way: PIL images, transformed one at a time."""

    def __init__(self, X, y, augs):
        self.X, self.y = X.numpy(), y.tolist()
        self.augs = transforms.Compose([*augs, transforms.ToTensor()])

    def __len__(self):
        return len(self.y)

    def __getitem__(self, i):
        return self.augs(Image.fromarray(self.X[i])), self.y[i]


class Plain(Dataset):
    """The limit: pick a batch, make it float."""

    def __init__(self, X, y):
        self.X, self.y = X.permute(0, 3, 1, 2).contiguous(), y

    def __len__(self):
        return len(self.y)

    def __getitems__(self, indices):
        i = torch.as_tensor(indices)
        X, y = self.X.index_select(0, i), self.y.index_select(0, i)
        return [augment.Batch((batch.to_float(X), y))]


def cpu_seconds() -> float:
    """CPU time of this process and of workers that have ended."""
    return sum(os.times()[:4])


def timed(loader: DataLoader, epochs: int) -> tuple[float, float, float]:
    """(images a second by the wall, per CPU-second, seconds to the first batch)."""
    cpu, start, first, images = cpu_seconds(), time.perf_counter(), None, 0
    for _ in range(epochs):
        for X, _ in loader:
            first = first or time.perf_counter() - start
            images += len(X)
    wall = time.perf_counter() - start
    return images / wall, images / (cpu_seconds() - cpu), first


def main() -> None:
    # Four workers on fewer cores are part of the comparison.
    warnings.filterwarnings("ignore", "This DataLoader will create", UserWarning)
    threads = torch.get_num_threads()
    X = torch.randint(0, 256, (N, 32, 32, 3), dtype=torch.uint8)
    y = torch.randint(0, 10, (N,))
    print(f"{N:,} images, batches of {SIZE}, {threads} threads")
    print(
        f"{'':36}{'images/s':>10}{'per CPU-s':>11}{'first batch':>13}"
        f"{'x wall':>8}{'x CPU':>7}"
    )
    for name, ours in policies(batch).items():
        book = OneByOne(X, y, policies(transforms)[name])
        whole = batch.Compose(ours).dataset(X, y)
        how = {"batch_size": SIZE, "shuffle": True}
        loaders = {f"book, {w} workers": (book, {"num_workers": w}) for w in WORKERS}
        loaders["whole batches"] = (whole, {})
        loaders["whole batches, 1 thread"] = (whole, {})
        loaders["limit, 1 thread"] = (Plain(X, y), {})
        results = {kind: [] for kind in loaders}
        for _ in range(ROUNDS):
            for kind, (dataset, more) in loaders.items():
                epochs = 1 if dataset is book else EPOCHS[name]
                loader = DataLoader(dataset, **how, **more)
                torch.set_num_threads(1 if "1 thread" in kind else threads)
                results[kind].append(timed(loader, epochs))
        medians = {
            kind: [statistics.median(values) for values in zip(*rows, strict=True)]
            for kind, rows in results.items()
        }
        # The best by each measure: more workers may be faster and cost more.
        books = [m for kind, m in medians.items() if kind.startswith("book")]
        best_wall, best_cpu = max(m[0] for m in books), max(m[1] for m in books)
        print(name)
        for kind, (wall, cpu, first) in medians.items():
            print(
                f"    {kind:32}{wall:10,.0f}{cpu:11,.0f}{1000 * first:10.1f} ms"
                f"{wall / best_wall:8.1f}{cpu / best_cpu:7.1f}"
            )


if __name__ == "__main__":
    main()
