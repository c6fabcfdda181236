"""Collected from notebooks/05_cifar10.ipynb, where it is explained.

Edit the lesson, then run `python -m tools.collect`.
"""

import os
import re

import torch
from PIL import Image
from torchvision.transforms.functional import to_tensor

from d2lext.images import read_cifar10

__all__ = ["ImageDataset", "default_workers", "load_cifar10"]


# 05_cifar10.ipynb: save-dataset
class ImageDataset(torch.utils.data.Dataset):
    """Pictures as PIL images, each changed by `augs` when it is asked for.

    X: uint8, (n, height, width, 3); y: n labels. Without `augs`, as `ToTensor` does.
    """

    def __init__(self, X, y, augs=None):
        self.X, self.y, self.augs = X, y, augs or to_tensor

    def __len__(self):
        return len(self.y)

    def __getitem__(self, i):
        x = self.augs(Image.fromarray(self.X[i].numpy()))
        if isinstance(x, Image.Image):
            raise TypeError(
                "augs: its pictures are still PIL images; end with ToTensor()"
            )
        return x, int(self.y[i])


# 05_cifar10.ipynb: save-workers
def default_workers(num_examples: int) -> int:
    """How many processes to prepare this many pictures with, one at a time."""
    if hasattr(os, "sched_getaffinity"):
        cores = len(os.sched_getaffinity(0))
    else:
        cores = os.cpu_count() or 1
    # Starting them takes longer than an epoch of a few thousand pictures.
    return 0 if num_examples < 10_000 or cores == 1 else min(cores, 8)


# 05_cifar10.ipynb: save-loader
class _Loader(torch.utils.data.DataLoader):
    """A DataLoader that says what to do when a worker dies."""

    def __iter__(self):
        try:
            yield from super().__iter__()
        except RuntimeError as error:
            if not re.search(r"DataLoader worker \(pid", str(error)):
                raise
            self._iterator = None  # the next epoch starts new workers
            raise RuntimeError(
                f"num_workers={self.num_workers}: a worker died ({error}); use fewer, "
                "which takes less memory, or 0, which shows errors where they happen"
            ) from error


# 05_cifar10.ipynb: save-check
def _check_arguments(is_train, augs, batch_size, num_workers, generator):
    if not isinstance(is_train, bool):
        raise TypeError(f"is_train: expected True or False, got {is_train!r}")
    whole = isinstance(batch_size, int) and not isinstance(batch_size, bool)
    if not whole or batch_size < 1:
        raise ValueError(
            f"batch_size: expected a whole number >= 1, got {batch_size!r}"
        )
    if isinstance(augs, type):
        raise TypeError(
            f"augs: {augs.__name__} is a class; make one first, {augs.__name__}(...)"
        )
    if augs is not None and not callable(augs):
        raise TypeError(
            "augs: expected a transform such as ToTensor(), something to call, or "
            f"None, got {type(augs).__name__}; several become one by Compose([...])"
        )
    if num_workers is not None and not isinstance(num_workers, int):
        raise TypeError(f"num_workers: expected a whole number, got {num_workers!r}")
    if hasattr(augs, "dataset") and num_workers:
        raise ValueError(
            f"num_workers: a transform of whole batches needs none, got {num_workers}"
        )
    if not isinstance(generator, torch.Generator | None):
        raise TypeError(
            f"generator: expected a torch.Generator, got {type(generator).__name__}"
        )


# 05_cifar10.ipynb: save-load
def load_cifar10(
    is_train,
    augs,
    batch_size,
    root=None,
    download=False,
    num_workers=None,
    device=None,
    generator=None,
):
    """Return a DataLoader of CIFAR-10, else of the bundled sample (d2l 14.1).

    Prints which data it found; `root` and `download` are those of `read_cifar10`.
    augs: a transform of PIL images; None for `ToTensor`; or one of `d2lext.batch`,
    with which the data stays in memory, on `device`. Training batches are shuffled,
    by `generator` if given. Raises ValueError or TypeError, naming the argument.
    """
    _check_arguments(is_train, augs, batch_size, num_workers, generator)
    X, y, _, source = read_cifar10(is_train, root, download)
    print("data:", source)
    settings = {"shuffle": is_train, "generator": generator}
    if hasattr(augs, "dataset"):
        dataset = augs.dataset(X, y, device)
        dataset.source = source
        return _Loader(dataset, batch_size, **settings)
    if num_workers is None:
        num_workers = default_workers(len(y))
    dataset = ImageDataset(X, y, augs)
    dataset.source = source
    settings |= {"num_workers": num_workers, "persistent_workers": num_workers > 0}
    return _Loader(dataset, batch_size, **settings)
