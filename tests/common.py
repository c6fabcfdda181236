"""What several test modules share: tables of cases, and parts of a training run."""

import contextlib
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from PIL import Image
from torch import nn

from d2lext.images import CLASSES

CPU = [torch.device("cpu")]
LOSS = nn.CrossEntropyLoss(reduction="none")


def rows(names: str, table: str) -> pytest.MarkDecorator:
    """Run a test for each line of a table, whose cells are divided by " | "."""
    cells = [re.split(r" +\| ", line) for line in table.strip().splitlines()]
    return pytest.mark.parametrize(names.split(), cells)


def refused(names: dict, table: str) -> Callable:
    """A test for each line of code in a table, with the words of the error."""

    @rows("code words", table)
    def test(code: str, words: str) -> None:
        with pytest.raises((TypeError, ValueError, RuntimeError), match=words):
            eval(code, names)

    return test


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@contextlib.contextmanager
def other_defaults() -> Iterator[None]:
    """New tensors are float64, and on a device that has no numbers."""
    torch.set_default_dtype(torch.float64)
    try:
        with torch.device("meta"):
            yield
    finally:
        torch.set_default_dtype(torch.float32)


def make_net(features: int = 64) -> nn.Sequential:
    """Five classes of images 6 x 6, always the same weights."""
    torch.manual_seed(0)
    layers = nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(features, 5)
    return nn.Sequential(*layers)


def sgd(net: nn.Module, lr: float = 0.01) -> torch.optim.Optimizer:
    return torch.optim.SGD(net.parameters(), lr)


def flat(net: nn.Module) -> torch.Tensor:
    return torch.cat([p.detach().flatten() for p in net.parameters()])


def points(history) -> list[tuple]:
    return [point[:5] for point in history]  # all but the seconds


def make_folder(root: Path, train: int = 4, test: int = 2) -> Path:
    """A folder that `read_cifar10` takes for CIFAR-10, with few images of a class.

    Image i of a class is filled with one color, of which the red is 10 * label + i.
    """
    for split, count in (("train", train), ("test", test)):
        for label, name in enumerate(CLASSES):
            folder = root / split / name
            folder.mkdir(parents=True)
            for i in range(count):
                color = (10 * label + i, 25 * label, 255 - 25 * label)
                Image.new("RGB", (32, 32), color).save(folder / f"{i}.png")
    return root
