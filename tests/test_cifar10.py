"""load_cifar10: the book's meaning, its branches, its workers, and bad arguments."""

import multiprocessing as mp
import os
import re

import pytest
import torch
import torchvision
from torchvision.transforms import v2

import d2lext as d2l
from d2lext import batch, cifar10
from d2lext.images import VARIABLE, read_cifar10

TO_FLOAT = v2.Compose([v2.ToImage(), v2.ToDtype(torch.float32, scale=True)])
FLIP = v2.Compose([v2.RandomHorizontalFlip(), TO_FLOAT])


@pytest.fixture(autouse=True)
def sample(monkeypatch):
    monkeypatch.setenv(VARIABLE, "sample")


def test_test_images_come_in_order_and_unchanged(capsys):
    loader = d2l.load_cifar10(False, torchvision.transforms.ToTensor(), 300)
    assert capsys.readouterr().out == f"data: {loader.dataset.source}\n"
    assert isinstance(loader, torch.utils.data.DataLoader)
    X, y, _, _ = read_cifar10(False)
    batches = list(loader)
    assert [len(b) for _, b in batches] == [300, 300, 300, 100]
    assert torch.equal(torch.cat([b for _, b in batches]), y)
    seen = torch.cat([a for a, _ in batches])
    assert seen.dtype == torch.float32
    assert torch.equal(seen, X.permute(0, 3, 1, 2) / 255)


def test_training_images_are_all_there_in_another_order_each_epoch():
    loader = d2l.load_cifar10(True, None, 500)
    X, y, _, _ = read_cifar10(True)
    sums = X.flatten(1).sum(1)  # an image is known by its sum
    labels = []
    for _ in range(2):
        images, again = map(torch.cat, zip(*loader, strict=True))
        seen = (images * 255).round().flatten(1).sum(1).long()
        assert torch.equal(seen.sort().values, sums.sort().values)
        assert {*zip(seen.tolist(), again.tolist(), strict=True)} == {
            *zip(sums.tolist(), y.tolist(), strict=True)
        }
        labels.append(again)
    assert not torch.equal(*labels)


@pytest.mark.parametrize("augs", [None, TO_FLOAT, batch.RandomVerticalFlip(0)])
def test_other_defaults_of_torch_change_nothing(augs):
    def first():
        generator = torch.Generator().manual_seed(3)
        return next(iter(d2l.load_cifar10(True, augs, 64, generator=generator)))

    X, y = first()
    torch.set_default_dtype(torch.float64)
    try:
        with torch.device("meta"):
            again = first()
            assert next(iter(d2l.load_cifar10(True, augs, 64)))[1].device.type == "cpu"
    finally:
        torch.set_default_dtype(torch.float32)
    assert torch.equal(X, again[0]) and torch.equal(y, again[1])
    assert again[0].dtype == torch.float32


class WholeBatch:
    """A transform of whole batches, as small as can be."""

    def __call__(self, X):
        return X

    def dataset(self, X, y, device=None):
        self.given = (X.shape, y.shape, device)
        return torch.utils.data.TensorDataset(X.permute(0, 3, 1, 2) / 255, y)


def test_a_transform_of_whole_batches_makes_its_own_data_set():
    augs = WholeBatch()
    loader = d2l.load_cifar10(False, augs, 400, device="cpu", num_workers=0)
    assert augs.given == ((1000, 32, 32, 3), (1000,), "cpu")
    assert loader.dataset.source.count == 1000
    assert [len(y) for _, y in loader] == [400, 400, 200]
    with pytest.raises(ValueError, match=r"num_workers, with whole batches: .*got 2"):
        d2l.load_cifar10(False, augs, 400, num_workers=2)


@pytest.mark.parametrize("augs", [FLIP, batch.RandomHorizontalFlip()])
def test_make_loader_hands_settings_on(augs):
    X, y, _, _ = read_cifar10(True)
    batches = [[3, 5], [7]]
    loader = d2l.make_loader(X, y, augs, batch_sampler=batches)
    assert [labels.tolist() for _, labels in loader] == [y[i].tolist() for i in batches]
    assert loader.num_workers == 0


@pytest.mark.parametrize(
    ("keywords", "words"),
    [
        ({"is_train": "test"}, "is_train: expected True or False, got 'test'"),
        ({"augs": "flip"}, r"augs: .*such as a transform, or Compose\(\[.*got str"),
        ({"augs": batch.RandomVerticalFlip}, "augs: RandomVerticalFlip is a class"),
        ({"batch_size": 0}, "batch_size: .*>= 1, got 0"),
        ({"num_workers": -1}, "num_workers: .*>= 0, got -1"),
        ({"generator": 5}, r"generator: .*torch\.Generator, got int"),
    ],
)
def test_bad_arguments_are_named(keywords, words):
    with pytest.raises((TypeError, ValueError), match=words):
        d2l.load_cifar10(**{"is_train": True, "augs": FLIP, "batch_size": 8} | keywords)


def test_a_transform_that_gives_pil_images_is_named():
    loader = d2l.load_cifar10(True, v2.RandomHorizontalFlip(), 64, num_workers=1)
    with pytest.raises(TypeError, match=r"augs: expected a tensor .*ToTensor\(\)"):
        next(iter(loader))


def test_after_a_worker_died_the_next_epoch_starts_others(tmp_path):
    deadly = tmp_path / "deadly"
    deadly.touch()

    def augs(img):
        return os._exit(1) if deadly.exists() else v2.functional.to_image(img)

    X, y = torch.zeros(4, 8, 8, 3, dtype=torch.uint8), torch.arange(4)
    fork = mp.get_context("fork")
    loader = d2l.make_loader(X, y, augs, 2, 1, multiprocessing_context=fork)
    for _ in range(2):
        with pytest.raises(RuntimeError, match="exited unexpectedly"):
            list(loader)
    deadly.unlink()
    assert len(list(loader)) == 2


@pytest.mark.parametrize(
    ("num_examples", "cores", "workers"),
    [(9_999, 8, 0), (10_000, 3, 3), (50_000, 64, 8), (50_000, 1, 0)],
)
def test_workers_by_default(monkeypatch, num_examples, cores, workers):
    monkeypatch.setattr(cifar10, "usable_cores", lambda: cores)
    assert d2l.default_workers(num_examples) == workers
    X = torch.zeros(1, dtype=torch.uint8).expand(num_examples, 2, 2, 3)
    loader = d2l.make_loader(X, range(num_examples), None)
    assert loader.num_workers == workers
    assert loader.persistent_workers == (workers > 0)


def fail(img):
    raise RuntimeError("a mistake in a transform")


def test_a_mistake_in_a_transform_or_a_sampler_is_shown_as_it_is():
    def sampler():
        raise TypeError("a mistake in a sampler")
        yield

    loader = d2l.load_cifar10(True, fail, 8, num_workers=1)
    with pytest.raises(RuntimeError, match="a mistake in a transform"):
        list(loader)
    loader = d2l.load_cifar10(True, FLIP, 8, num_workers=1)
    loader.batch_sampler.sampler = sampler()
    with pytest.raises(TypeError, match=r"^a mistake in a sampler"):
        list(loader)  # the first indices are asked for where workers start


def local_class():
    class Local:
        def __call__(self, img):
            return TO_FLOAT(img)

    return Local()


START_METHODS = sorted({"spawn", "forkserver"} & set(mp.get_all_start_methods()))


@pytest.mark.parametrize("method", START_METHODS)
@pytest.mark.parametrize(
    ("augs", "cause"),
    [
        (lambda img: TO_FLOAT(img), "<lambda>"),
        (v2.Compose([local_class()]), "local_class.<locals>.Local"),
        (v2.Lambda((i for i in ()).send), "generator"),
    ],
)
def test_an_augmentation_that_no_worker_can_be_sent(method, augs, cause):
    X, y = torch.zeros(8, 4, 4, 3, dtype=torch.uint8), range(8)
    way = {"num_workers": 1, "multiprocessing_context": method}
    loader = d2l.make_loader(X, y, augs, 4, **way)
    words = (
        rf"^num_workers=1: .*\(.*{re.escape(cause)}.*\); use 0,.*\.py.*d2lext\.batch"
    )
    for _ in range(2):  # and again in the next epoch
        with pytest.raises(TypeError, match=words) as caught:
            list(loader)
        assert caught.value.__cause__ is not None


@pytest.mark.parametrize("method", START_METHODS)
def test_workers_that_import_the_program(method):
    """As on Windows and macOS, and on Linux from Python 3.14."""
    X, y, *_ = read_cifar10(False)
    way = {"num_workers": 1, "multiprocessing_context": method}
    loader = d2l.make_loader(X, y, TO_FLOAT, 500, **way)
    for _ in range(2):
        assert torch.equal(torch.cat([labels for _, labels in loader]), y)
