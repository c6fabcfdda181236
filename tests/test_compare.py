import pytest
import torch
from torch import nn
from torchvision import transforms

from d2lext import batch
from d2lext.compare import (
    AlternatingFlip,
    augmentations,
    difference,
    init_weights,
    resnet18,
    small_net,
    train_with_data_aug,
    whitening,
)
from d2lext.images import read_cifar10
from tests.common import make_folder, refused, rows, seeded


@pytest.fixture(scope="module")
def X() -> torch.Tensor:
    return read_cifar10(True).X.permute(0, 3, 1, 2)  # (2000, 3, 32, 32) uint8


REFUSED = r"""
augmentations("flip1.5")      | policy 'flip1.5', flip1.5: p: .* 0 to 1, got 1.5
augmentations("flip+crop2.5") | , crop2.5: padding: expected an integer
augmentations("flip0.5,1")    | count of numbers: .*from 0 to 1, got 2
augmentations("alternate1")   | count of numbers: .*from 0 to 0, got 1
augmentations("crop1.2.3")    | crop1.2.3: .*1.2.3
augmentations("flip+turn")    | policy 'flip\+turn' .*flip, .*got 'turn'
augmentations("flip+")        | policy 'flip\+' .*flip, .*got ''
augmentations("flip+none")    | policy 'flip\+none' .*flip, .*got 'none'
"""
test_policies_that_cannot_be = refused(globals(), REFUSED)


def test_every_layer_is_initialised_within_xaviers_bounds() -> None:
    torch.manual_seed(0)
    net = resnet18(10, 3).apply(init_weights)
    weights = [p for p in net.parameters() if p.ndim > 1]
    assert len(weights) == 21  # 20 convolutions and a linear layer
    for weight in weights:
        fans = sum(weight.shape[:2]) * weight[0, 0].numel()  # in and out
        assert 0.99 < weight.abs().max() / (6 / fans) ** 0.5 <= 1


def test_resnet18_is_the_books() -> None:
    book = pytest.importorskip("d2l.torch").resnet18(10, 3)
    net, images = resnet18(10, 3), torch.rand(4, 3, 32, 32)
    book(images)  # now it has weights
    shapes = {name: value.shape for name, value in book.state_dict().items()}
    assert {name: value.shape for name, value in net.state_dict().items()} == shapes
    net.load_state_dict(book.state_dict())
    book.eval(), net.eval()
    assert torch.allclose(net(images), book(images), atol=1e-5)


def test_width_scales_all_channels() -> None:
    net = resnet18(7, in_channels=1, width=8)
    assert net(torch.rand(2, 1, 32, 32)).shape == (2, 7)
    convs = [m.out_channels for m in net.modules() if isinstance(m, nn.Conv2d)]
    wide = [m.out_channels for m in resnet18(7).modules() if isinstance(m, nn.Conv2d)]
    assert wide == [8 * channels for channels in convs]


def test_whitened_images_are_white(X) -> None:
    """Uncorrelated, and of variance 1 where there is more than the added 1e-3."""
    layer = whitening(X)
    Y = layer(batch.to_float(X)).double().permute(0, 2, 3, 1).reshape(-1, 24)
    assert torch.equal(Y[:, :12], -Y[:, 12:])
    second = Y[:, :12].T @ Y[:, :12] / len(Y)
    variance = second.diagonal()
    assert (second - variance.diag()).abs().max() < 1e-3
    assert variance.max() == pytest.approx(1, abs=0.01)
    assert variance.min() > 0 and not layer.weight.requires_grad


def test_small_net_starts_by_passing_on(X) -> None:
    net = small_net(X, num_classes=6, widths=(32, 32, 40))
    images = batch.to_float(X[:2])
    after = net[1](net[0](images))
    assert torch.allclose(net[2](after)[:, :24], after, atol=1e-6)
    assert net(images).shape == (2, 6)


POLICIES = """
none                 | []
flip+crop            | [RandomHorizontalFlip(), RandomCrop(32, 4)]
flip0.3              | [RandomHorizontalFlip(0.3)]
crop2+rescale0.5     | [RandomCrop(32, 2), RandomResizedCrop(32, (0.5, 1))]
color0.4,0.2         | [ColorJitter(0.4, 0.2, 0.5, 0.25)]
color+erase1         | [ColorJitter(0.5, 0.5, 0.5, 0.25), RandomErasing(1)]
alternate+crop2      | [AlternatingFlip(), RandomCrop(32, 2)]
trivialaugment       | [TrivialAugmentWide()]
randaugment1,5+erase | [RandAugment(1, 5), RandomErasing()]
all                  | augmentations("flip0.5+rescale0.3+color0.5,0.5,0.5").transforms
"""


@rows("policy made", POLICIES)
def test_policies(policy: str, made: str, X) -> None:
    augs = augmentations(policy)
    assert repr(augs.transforms) == repr(eval(made, vars(batch) | globals()))
    assert augs(X[:4]).shape == (4, 3, 32, 32)


IN_A_CHAIN = [batch.RandomVerticalFlip(0), batch.RandomApply([AlternatingFlip()], 1)]


@pytest.mark.parametrize("augs", [AlternatingFlip(), batch.Compose(IN_A_CHAIN)])
def test_flips_alternate(X, augs) -> None:
    """Against the definition, in shuffled batches, wherever in a chain."""
    dataset = augs.dataset(X.permute(0, 2, 3, 1), [0] * len(X))
    first, second, third = shown = torch.empty(3, len(X), 3, 32, 32)
    for epoch in range(3):
        dataset.set_epoch(epoch)
        for part in torch.randperm(len(X)).split(300):
            shown[epoch, part] = dataset.batch(part.tolist())[0]
    plain = batch.to_float(X)
    mirrored = (first != plain).flatten(1).any(1)
    assert 0.45 < mirrored.float().mean() < 0.55
    expected = torch.where(mirrored[:, None, None, None], plain.flip(3), plain)
    assert torch.equal(first, expected) and torch.equal(second, expected.flip(3))
    assert torch.equal(third, first)


@pytest.mark.parametrize(("n", "m"), [(3, 3), (5, 3), (2, 1), (10, 8)])
def test_intervals_hold_what_they_promise(n, m) -> None:
    mean, half = difference([0.01, 0.02, 0.03], [0.03, 0.04, 0.05])
    assert mean == pytest.approx(2)
    assert half == pytest.approx(2.776 * (2 / 3) ** 0.5, abs=0.01)
    draws = seeded()
    a, b = (torch.randn(4000, k, generator=draws, dtype=torch.double) for k in (n, m))
    pairs = [difference(x.tolist(), y.tolist(), 1) for x, y in zip(a, b, strict=True)]
    held = sum(abs(mean) <= half for mean, half in pairs) / len(pairs)
    assert 0.935 < held < 0.965


def test_train_with_data_aug(tmp_path, monkeypatch, capsys) -> None:
    """With images one at a time, as in the book, and with whole batches."""
    monkeypatch.setenv("D2LEXT_CIFAR10", str(make_folder(tmp_path, 2, 1)))
    flip = transforms.RandomHorizontalFlip()
    one_by_one = transforms.Compose([flip, transforms.ToTensor()])
    for train_augs, test_augs in (
        (one_by_one, transforms.ToTensor()),
        (augmentations("flip"), augmentations("none")),
    ):
        net = resnet18(10, 3, width=4)
        history = train_with_data_aug(train_augs, test_augs, net, num_epochs=2)
        assert history[-1].examples == 40
        assert "examples/sec" in capsys.readouterr().out
