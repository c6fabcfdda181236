"""Collected from notebooks/05_cifar10.ipynb, where it is explained.

Edit the lesson, then run `python -m tools.collect`.
"""

# fmt: off
import pickle
import re

import torch
from PIL import Image

from d2lext import expect
from d2lext.images import read_cifar10
from d2lext.runs import usable_cores


# 05_cifar10.ipynb: save-dataset
class ImageDataset(torch.utils.data.Dataset):
    """Images and labels; each access applies `augs` to one PIL image.

    X: (n, height, width, 3), uint8.
    y: n labels.
    augs: a transform that returns a tensor; default: floats from 0 to 1.
    """

    def __init__(self, X, y, augs=None):
        self.X, self.y, self.augs = X, y, augs

    def __len__(self):
        return len(self.y)

    def __getitem__(self, i):
        x, label = self.X[i], int(self.y[i])
        if self.augs is None:
            return x.permute(2, 0, 1).float() / 255, label
        return expect.tensor("augs", self.augs(Image.fromarray(x.numpy()))), label


# 05_cifar10.ipynb: save-workers
def default_workers(num_examples: int) -> int:
    """Return how many workers should augment this many images, one by one."""
    cores = usable_cores()
    # Starting workers takes longer than an epoch of a few thousand images.
    return 0 if num_examples < 10_000 or cores == 1 else min(cores, 8)


# 05_cifar10.ipynb: save-loader
class _Loader(torch.utils.data.DataLoader):
    """A DataLoader that says what to do when workers cannot start."""

    def __iter__(self):
        try:
            with torch.device("cpu"):  # shuffle on the CPU, whatever the default device
                batches = super().__iter__()
        except (AttributeError, TypeError, pickle.PicklingError) as error:
            if not re.search("pickle|local object", str(error)):
                raise
            raise TypeError(
                f"num_workers={self.num_workers}: cannot send this augmentation to a "
                f"worker ({error}); use 0, a function or class from a .py file, "
                "or a transform of d2lext.batch"
            ) from error
        while True:
            try:
                with torch.device("cpu"):
                    batch = next(batches, None)
            except RuntimeError:  # a worker died: the next epoch starts others
                self._iterator = None
                raise
            if batch is None:
                return
            yield batch


# 05_cifar10.ipynb: save-make
def make_loader(X, y, augs, batch_size=1, num_workers=None, device=None, **kwargs):
    """Return a DataLoader of images X, uint8 (n, height, width, 3), and their labels y.

    augs: a transform of PIL images; None for no change; or a transform of
        `d2lext.batch`, which keeps the data in memory on `device`.
    num_workers: default: `default_workers`.
    kwargs: passed to the DataLoader.
    """
    if augs is not None:
        expect.function("augs", augs, "a transform, or Compose([...]) of several")
    if hasattr(augs, "dataset"):
        expect.choice("num_workers, with whole batches", num_workers, (0, None))
        return _Loader(augs.dataset(X, y, device), batch_size, **kwargs)
    if num_workers is None:
        num_workers = default_workers(len(y))
    kwargs |= {"num_workers": expect.integer("num_workers", num_workers, 0)}
    kwargs |= {"persistent_workers": num_workers > 0}
    return _Loader(ImageDataset(X, y, augs), batch_size, **kwargs)


# 05_cifar10.ipynb: save-load
def load_cifar10(is_train, augs, batch_size, root=None, download=False,
                 num_workers=None, device=None, generator=None):
    """Return a DataLoader of CIFAR-10, else of the bundled sample (d2l 14.1).

    Prints which data it found.

    is_train: True for training images, shuffled; False for test images, in order.
    augs, num_workers, device: as for `make_loader`.
    root, download: as for `read_cifar10`.
    generator: shuffles the training images; default: torch's own.
    """
    expect.choice("is_train", is_train, (True, False))
    settings = {"batch_size": expect.integer("batch_size", batch_size),
                "shuffle": is_train, "generator": expect.generator(generator)}
    X, y, _, source = read_cifar10(is_train, root, download)
    print("data:", source)
    loader = make_loader(X, y, augs, num_workers=num_workers, device=device, **settings)
    loader.dataset.source = source
    return loader
