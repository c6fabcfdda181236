"""load_cifar10: the book's meaning, its branches, its workers, and bad arguments."""

import multiprocessing as mp
import os

import pytest
import torch
import torchvision
from torchvision.transforms import v2

import d2lext as d2l
from d2lext import batch, cifar10
from d2lext.images import read_cifar10
from tests.common import other_defaults, refused, seeded

TO_FLOAT = v2.Compose([v2.ToImage(), v2.ToDtype(torch.float32, scale=True)])
FLIP = v2.Compose([v2.RandomHorizontalFlip(), TO_FLOAT])


def test_test_images_come_in_order_and_unchanged(capsys):
    loader = d2l.load_cifar10(False, torchvision.transforms.ToTensor(), 300)
    assert capsys.readouterr().out == f"data: {loader.dataset.source}\n"
    assert isinstance(loader, torch.utils.data.DataLoader)
    X, y, _, _ = read_cifar10(False)
    assert [len(labels) for _, labels in loader] == [300, 300, 300, 100]
    seen, labels = map(torch.cat, zip(*loader, strict=True))
    assert torch.equal(seen, X.permute(0, 3, 1, 2) / 255) and torch.equal(labels, y)


def test_training_images_are_all_there_in_another_order_each_epoch():
    loader = d2l.load_cifar10(True, None, 500)
    X, y, _, _ = read_cifar10(True)
    wanted = sorted(zip(X.flatten(1).sum(1).tolist(), y.tolist(), strict=True))
    epochs = []
    for _ in range(2):
        images, labels = map(torch.cat, zip(*loader, strict=True))
        sums = (images * 255).round().flatten(1).sum(1).long()  # name an image
        epochs.append([*zip(sums.tolist(), labels.tolist(), strict=True)])
        assert sorted(epochs[-1]) == wanted
    assert epochs[0] != epochs[1]


@pytest.mark.parametrize("augs", [None, TO_FLOAT, batch.RandomVerticalFlip(0)])
def test_other_defaults_of_torch_change_nothing(augs):
    def first():
        return next(iter(d2l.load_cifar10(True, augs, 64, generator=seeded(3))))

    X, y = first()
    with other_defaults():
        again = first()
        assert next(iter(d2l.load_cifar10(True, augs, 64)))[1].device.type == "cpu"
    assert torch.equal(X, again[0]) and torch.equal(y, again[1])
    assert again[0].dtype == torch.float32


def test_a_transform_of_whole_batches_makes_its_own_data_set():
    augs = batch.RandomVerticalFlip()
    loader = d2l.load_cifar10(False, augs, 400, device="meta", num_workers=0)
    assert loader.dataset.transform is augs and loader.dataset.source.count == 1000
    assert [X.shape[0] for X, _ in loader if X.is_meta] == [400, 400, 200]
    with pytest.raises(ValueError, match=r"num_workers, with whole batches: .*got 2"):
        d2l.load_cifar10(False, augs, 400, num_workers=2)


def load(is_train=True, augs=FLIP, batch_size=8, **how):
    return d2l.load_cifar10(is_train, augs, batch_size, **how)


REFUSED = r"""
load(is_train="test")               | is_train: expected True or False, got 'test'
load(augs="flip")                   | augs: .*such as a transform, or Compose\(.*got str
load(augs=batch.RandomVerticalFlip) | augs: RandomVerticalFlip is a class
load(batch_size=0)                  | batch_size: .*>= 1, got 0
load(num_workers=-1)                | num_workers: .*>= 0, got -1
load(generator=5)                   | generator: .*torch\.Generator, got int
"""
test_bad_arguments_are_named = refused(globals(), REFUSED)


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


SPAWN = {"num_workers": 1, "multiprocessing_context": "spawn"}  # it pickles


def test_an_augmentation_that_no_worker_can_be_sent():
    class Local(v2.ToImage):
        pass

    X, y = torch.zeros(8, 4, 4, 3, dtype=torch.uint8), range(8)
    for augs, cause in (
        (lambda img: TO_FLOAT(img), "<lambda>"),
        (v2.Compose([Local()]), "<locals>.Local"),
        (v2.Lambda((i for i in ()).send), "generator"),
    ):
        loader = d2l.make_loader(X, y, augs, 4, **SPAWN)
        words = rf"^num_workers=1: .*\(.*{cause}.*\); use 0,.*\.py.*d2lext\.batch"
        for _ in range(2):  # and again in the next epoch
            with pytest.raises(TypeError, match=words) as caught:
                list(loader)
            assert caught.value.__cause__ is not None


def test_workers_that_import_the_program():
    """As on Windows and macOS, and on Linux from Python 3.14."""
    X, y, *_ = read_cifar10(False)
    loader = d2l.make_loader(X, y, TO_FLOAT, 500, **SPAWN)
    for _ in range(2):
        assert torch.equal(torch.cat([labels for _, labels in loader]), y)
