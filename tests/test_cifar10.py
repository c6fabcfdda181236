"""load_cifar10: the book's meaning, its branches, its workers, and bad arguments."""

import os
import signal
import subprocess
import sys
import textwrap

import pytest
import torch
import torchvision
from torchvision.transforms import v2

import d2lext as d2l
from d2lext import batch
from d2lext.images import VARIABLE, read_cifar10

FLIP = torchvision.transforms.Compose(
    [
        torchvision.transforms.RandomHorizontalFlip(),
        torchvision.transforms.ToTensor(),
    ]
)


@pytest.fixture(autouse=True)
def sample(monkeypatch):
    monkeypatch.setenv(VARIABLE, "sample")


def test_test_pictures_come_in_order_and_unchanged(capsys):
    loader = d2l.load_cifar10(False, torchvision.transforms.ToTensor(), 300)
    assert capsys.readouterr().out.count("\n") == 1
    assert isinstance(loader, torch.utils.data.DataLoader)
    X, y, _, _ = read_cifar10(False)
    batches = list(loader)
    assert [len(b) for _, b in batches] == [300, 300, 300, 100]
    assert torch.equal(torch.cat([b for _, b in batches]), y)
    seen = torch.cat([a for a, _ in batches])
    assert seen.dtype == torch.float32
    assert torch.equal(seen, X.permute(0, 3, 1, 2) / 255)


def test_training_pictures_are_all_there_in_another_order_each_epoch():
    generator = torch.Generator().manual_seed(0)
    loader = d2l.load_cifar10(True, FLIP, 500, generator=generator)
    first, second = (torch.cat([y for _, y in loader]) for _ in range(2))
    assert first.bincount().tolist() == [200] * 10
    assert not torch.equal(first, second)


def test_a_generator_repeats_the_order():
    def labels():
        generator = torch.Generator().manual_seed(3)
        return next(iter(d2l.load_cifar10(True, None, 64, generator=generator)))[1]

    assert torch.equal(labels(), labels())


def test_no_augs_and_v2_do_as_to_tensor():
    to_float = v2.Compose([v2.ToImage(), v2.ToDtype(torch.float32, scale=True)])
    pictures = [
        next(iter(d2l.load_cifar10(False, augs, 8)))[0]
        for augs in (None, to_float, torchvision.transforms.ToTensor())
    ]
    assert torch.equal(pictures[0], pictures[2])
    assert torch.allclose(pictures[1], pictures[2])


class WholeBatch:
    """A transform of whole batches, as small as can be."""

    def __call__(self, X):
        return X

    def dataset(self, X, y, device=None):
        self.given = (X.shape, y.shape, device)
        return _Memory(X, y)


class _Memory(torch.utils.data.Dataset):
    def __init__(self, X, y):
        self.X, self.y = X, y

    def __len__(self):
        return len(self.y)

    def __getitems__(self, i):
        return self.X[i].permute(0, 3, 1, 2) / 255, self.y[i]


def test_a_transform_of_whole_batches_makes_its_own_data_set():
    augs = WholeBatch()
    loader = d2l.load_cifar10(False, augs, 400, device="cpu")
    assert augs.given == ((1000, 32, 32, 3), (1000,), "cpu")
    assert loader.num_workers == 0
    assert [tuple(X.shape) for X, _ in loader] == [
        (400, 3, 32, 32),
        (400, 3, 32, 32),
        (200, 3, 32, 32),
    ]
    with pytest.raises(ValueError, match=r"num_workers: .*got 2"):
        d2l.load_cifar10(False, augs, 400, num_workers=2)


@pytest.mark.parametrize(
    ("augs", "batch_size", "error", "words"),
    [
        (FLIP, 0, ValueError, "batch_size: .*>= 1, got 0"),
        (FLIP, -1, ValueError, "batch_size: .*got -1"),
        (FLIP, 2.5, ValueError, "batch_size: .*got 2.5"),
        (FLIP, True, ValueError, "batch_size: .*got True"),
        ("flip", 8, TypeError, "augs: expected a transform.*got str"),
        ([FLIP], 8, TypeError, r"augs: .*got list; .*Compose\(\["),
        (
            torchvision.transforms.ToTensor,
            8,
            TypeError,
            r"augs: ToTensor is a class.*ToTensor\(\.\.\.\)",
        ),
        (batch.RandomVerticalFlip, 8, TypeError, "augs: RandomVerticalFlip is a class"),
    ],
)
def test_bad_arguments_are_named(augs, batch_size, error, words):
    with pytest.raises(error, match=words):
        d2l.load_cifar10(True, augs, batch_size)


@pytest.mark.parametrize(
    ("keywords", "error", "words"),
    [
        ({"is_train": "test"}, TypeError, "is_train: expected True or False.*'test'"),
        ({"num_workers": "2"}, TypeError, "num_workers: .*'2'"),
        ({"generator": 5}, TypeError, r"generator: .*torch\.Generator, got int"),
    ],
)
def test_bad_keywords_are_named(keywords, error, words):
    with pytest.raises(error, match=words):
        d2l.load_cifar10(**{"is_train": True, "augs": FLIP, "batch_size": 8} | keywords)


@pytest.mark.parametrize("num_workers", [0, 1])
def test_a_transform_that_gives_pil_images_is_named(num_workers):
    augs = torchvision.transforms.RandomHorizontalFlip()
    loader = d2l.load_cifar10(True, augs, 64, num_workers=num_workers)
    with pytest.raises(TypeError, match=r"augs: .*end with ToTensor\(\)"):
        next(iter(loader))


def test_workers_by_default():
    assert d2l.default_workers(2000) == 0
    assert 0 <= d2l.default_workers(50_000) <= 8
    assert d2l.load_cifar10(True, FLIP, 64).num_workers == 0


def test_the_default_counts_only_the_cores_that_are_ours():
    if not hasattr(os, "sched_setaffinity"):
        pytest.skip("this system has no affinity")
    ours = os.sched_getaffinity(0)
    try:
        os.sched_setaffinity(0, {min(ours)})
        assert d2l.default_workers(50_000) == 0
    finally:
        os.sched_setaffinity(0, ours)


def die(img):
    os.kill(os.getpid(), signal.SIGKILL)


def fail(img):
    raise RuntimeError("a mistake in a transform")


@pytest.mark.skipif(os.name != "posix", reason="kills a process by a signal")
def test_a_worker_that_dies_names_the_argument_and_the_way_out():
    loader = d2l.load_cifar10(True, die, 8, num_workers=1)
    for _ in range(2):  # and again in the next epoch, without stalling
        with pytest.raises(RuntimeError, match=r"num_workers=1: a worker died.*or 0"):
            list(loader)


def test_a_mistake_in_a_transform_is_shown_as_it_is():
    with pytest.raises(RuntimeError, match="a mistake in a transform") as caught:
        list(d2l.load_cifar10(True, fail, 8, num_workers=1))
    assert "a worker died" not in str(caught.value)


def test_workers_that_start_as_on_windows(tmp_path):
    script = tmp_path / "train.py"
    script.write_text(
        textwrap.dedent("""
        import torch, torchvision
        import d2lext as d2l

        if __name__ == "__main__":
            torch.multiprocessing.set_start_method("spawn")
            augs = torchvision.transforms.ToTensor()
            loader = d2l.load_cifar10(False, augs, 500, num_workers=1)
            print(sum(len(y) for _ in range(2) for _, y in loader))
        """)
    )
    told = subprocess.run(
        [sys.executable, str(script)],
        capture_output=True,
        text=True,
        timeout=300,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
    )
    assert told.stdout.splitlines()[-1:] == ["2000"], told.stderr
