"""Collected from notebooks/08_compare.ipynb, where it is explained.

Edit the lesson, then run `python -m tools.collect`.
"""

# fmt: off
import functools

import torch
from torch import nn
from torch.nn import functional as F

from d2lext import batch, expect
from d2lext.cifar10 import load_cifar10
from d2lext.multi_gpu import train_ch13, try_all_gpus


# 08_compare.ipynb: save-resnet
class ResidualBlock(nn.Module):
    """Add two 3 x 3 convolutions to their input, with the book's layers (d2l 8.6)."""

    def __init__(self, c_in, c_out, strides=1):
        super().__init__()
        self.conv1 = nn.Conv2d(c_in, c_out, 3, padding=1, stride=strides)
        self.conv2 = nn.Conv2d(c_out, c_out, 3, padding=1)
        changes = strides > 1 or c_in != c_out
        self.conv3 = nn.Conv2d(c_in, c_out, 1, stride=strides) if changes else None
        self.bn1, self.bn2 = nn.BatchNorm2d(c_out), nn.BatchNorm2d(c_out)

    def forward(self, X):
        Y = F.relu(self.bn1(self.conv1(X)))
        Y = self.bn2(self.conv2(Y))
        return F.relu(Y + (X if self.conv3 is None else self.conv3(X)))


# 08_compare.ipynb: save-resnet18
def resnet18(num_classes, in_channels=1, width=64):
    """Return the chapter's ResNet-18 for small images (d2l 13.6), with weights.

    width: channels of the first block; each of the other three has twice as many.
    """
    net = nn.Sequential(
        nn.Conv2d(in_channels, width, 3, padding=1), nn.BatchNorm2d(width), nn.ReLU()
    )
    for i in range(4):
        c_in, c_out = width * 2 ** max(0, i - 1), width * 2**i
        first = ResidualBlock(c_in, c_out, strides=1 if i == 0 else 2)
        block = nn.Sequential(first, ResidualBlock(c_out, c_out))
        net.add_module(f"resnet_block{i + 1}", block)
    net.add_module("global_avg_pool", nn.AdaptiveAvgPool2d(1))
    net.add_module("fc", nn.Sequential(nn.Flatten(), nn.Linear(c_out, num_classes)))
    return net


def init_weights(m):
    """Initialise a linear or convolutional layer (Xavier): net.apply(init_weights)."""
    if isinstance(m, nn.Linear | nn.Conv2d):
        nn.init.xavier_uniform_(m.weight)


# 08_compare.ipynb: save-whiten
def whitening(X):
    """Return a fixed 2 x 2 convolution (3 to 24 channels) that whitens images X.

    X: (n, 3, h, w), uint8 or float32 in [0, 1]; a few thousand are enough.
    """
    total, count = 0, 0
    for part in X[:2000].split(250):  # all at once would take half a gigabyte
        patches = F.unfold(batch.to_float(part), 2)  # (n, 12, places)
        patches = patches.transpose(1, 2).reshape(-1, 12).double()
        total, count = total + patches.T @ patches, count + len(patches)
    variances, vectors = torch.linalg.eigh(total / count)
    filters = (vectors / (variances + 1e-3).sqrt()).T.reshape(12, 3, 2, 2)
    layer = nn.Conv2d(3, 24, 2, bias=False).requires_grad_(False)
    layer.weight.copy_(torch.cat([filters, -filters]))
    return layer


# 08_compare.ipynb: save-small
class _Scaled(nn.Module):
    def forward(self, X):
        return X / 9


def small_net(X, num_classes=10, widths=(32, 64, 64)):
    """Return a slimmer net of cifar10-airbench's kind (Jordan, arXiv:2404.00498).

    X: training images, as for `whitening`.
    widths: channels of the three groups.
    """

    def conv(c_in, c_out):
        layer = nn.Conv2d(c_in, c_out, 3, padding=1, bias=False)
        nn.init.dirac_(layer.weight[:c_in])
        return layer

    layers, c_in = [whitening(X), nn.ReLU()], 24
    for c_out in widths:
        layers += [conv(c_in, c_out), nn.MaxPool2d(2), nn.BatchNorm2d(c_out), nn.ReLU()]
        layers += [conv(c_out, c_out), nn.BatchNorm2d(c_out), nn.ReLU()]
        c_in = c_out
    layers += [nn.AdaptiveMaxPool2d(1), nn.Flatten(), nn.Linear(c_in, num_classes)]
    return nn.Sequential(*layers, _Scaled())


# 08_compare.ipynb: save-alternate
@functools.cache
def _coins():
    """Return a fixed coin for each of a million images; further images reuse them."""
    mix = torch.Generator().manual_seed(0)
    return torch.rand(2**20, generator=mix, device="cpu") < 0.5


class AlternatingFlip(batch.RandomHorizontalFlip):
    """Mirror one half of the images in an epoch, and the other half in the next.

    From cifar10-airbench (Jordan, arXiv:2404.00498). It alternates if training calls
    the data set's `set_epoch` (`train_epochs` does). Called on a batch alone, it
    treats the images as the first of epoch 0.
    """

    def __init__(self):
        super().__init__()

    def draw_for(self, i, epoch, height, width, generator=None):
        return {"flip": _coins()[i % 2**20] ^ (epoch % 2 == 1)}

    def draw(self, n, height, width, generator=None):
        return self.draw_for(torch.arange(n, device="cpu"), 0, height, width)


# 08_compare.ipynb: save-policies
PARTS = {  # each part's transform and its default numbers
    "flip": (batch.RandomHorizontalFlip, 0.5),
    "alternate": (AlternatingFlip,),
    "crop": (lambda padding: batch.RandomCrop(32, padding), 4),
    "rescale": (lambda area: batch.RandomResizedCrop(32, (area, 1)), 0.3),
    "color": (batch.ColorJitter, 0.5, 0.5, 0.5, 0.25),
    "erase": (batch.RandomErasing, 0.5),
    "trivialaugment": (batch.TrivialAugmentWide,),
    "randaugment": (batch.RandAugment, 2, 9),
}


def augmentations(policy):
    """Return a policy by its name: "none", "all", or parts joined by "+".

    A part is a name in PARTS. Numbers after it replace the defaults, as in crop2
    (pixels of padding) or color0.4,0.2 (brightness, contrast). "all" is
    flip+rescale+color. Raises ValueError for an unknown part or a wrong number.
    """
    names = {"none": "", "all": "flip+rescale+color"}.get(policy, policy)
    transforms = []
    for part in names.split("+") if policy != "none" else ():
        name = part.rstrip("0123456789.,")
        of = f"policy {policy!r} (none, all, or parts joined by +)"
        make, *rest = PARTS[expect.choice(of, name, list(PARTS))]
        try:
            given = [float(n) if "." in n else int(n)
                     for n in part[len(name):].split(",") if n]
            expect.integer("count of numbers", len(given), 0, len(rest))
            transforms.append(make(*given, *rest[len(given):]))
        except ValueError as error:
            raise ValueError(f"policy {policy!r}, {part}: {error}") from None
    return batch.Compose(transforms)


# 08_compare.ipynb: save-with-aug
def train_with_data_aug(
    train_augs, test_augs, net, lr=0.001, num_epochs=10, batch_size=256, devices=None
):
    """Train net on CIFAR-10 with Adam and return the history (d2l 14.1).

    train_augs, test_augs: as for `load_cifar10`.
    lr: Adam's learning rate.
    net, num_epochs, devices: as for `train_ch13`.
    """
    devices = expect.devices(devices or try_all_gpus())
    train_iter = load_cifar10(True, train_augs, batch_size, device=devices[0])
    test_iter = load_cifar10(False, test_augs, batch_size, device=devices[0])
    loss = nn.CrossEntropyLoss(reduction="none")
    trainer = torch.optim.Adam(net.parameters(), lr=lr, fused=True)
    about = {"policy": repr(train_augs), "lr": lr}
    return train_ch13(
        net, train_iter, test_iter, loss, trainer, num_epochs, devices, about=about
    )


# 08_compare.ipynb: save-difference
def difference(a, b, scale=100):
    """Return mean(b) - mean(a) and the half-width of its 95% interval, in points.

    Pools the standard deviations of a and b (Student's t).

    a, b: one value for each seed, at least three in all.
    scale: multiplies the values; 100 turns fractions into percent.
    """
    a, b = (scale * torch.tensor(v, dtype=torch.float64) for v in (a, b))
    free = len(a) + len(b) - 2
    squares = (a - a.mean()).square().sum() + (b - b.mean()).square().sum()
    error = (squares / free * (1 / len(a) + 1 / len(b))).sqrt()
    quantiles = (12.71, 4.30, 3.18, 2.78, 2.57, 2.45, 2.36, 2.31, 2.26, 2.23)
    t = quantiles[free - 1] if free <= len(quantiles) else 1.96 + 2.6 / free
    return (b.mean() - a.mean()).item(), (t * error).item()
