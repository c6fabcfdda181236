"""Every argument check of the package, once: what it takes, refuses and says."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from torch import nn
from torchvision.transforms import InterpolationMode

from d2lext import expect
from d2lext.batch import Compose, Normalize, PerImage, RandomHorizontalFlip, Transform

NAN, INF = math.nan, math.inf
X8 = torch.zeros(2, 3, 8, 8)
NET = nn.Linear(2, 2)
FLIP, LAST = RandomHorizontalFlip(), Normalize((0, 0, 0), (1, 1, 1))
OTHER = torch.optim.SGD(nn.Linear(2, 2).parameters(), 0.1)
OWN = Compose([], torch.Generator())


Y, LOSS = torch.arange(4), nn.CrossEntropyLoss(reduction="none")
ONE_HOT = nn.functional.one_hot(Y, 5).float()
FROZEN = nn.Linear(2, 2).requires_grad_(False)


class FullyShardedDataParallel(nn.Linear):
    """Stands for PyTorch's, which needs a process group, by its name."""

    def __init__(self):
        super().__init__(2, 2)


def of(rule, *more, **how):
    return lambda value: rule("arg", value, *more, **how)


def rule(check, good, bad):
    """A check, values that it takes, and values that it refuses."""
    return check, good, bad


# By the words that an error holds.
RULES = {
    r"arg: expected an integer >= 1, got": rule(
        of(expect.integer), [1, 7, np.int64(3)], [0, -1, 1.0, True, "1", None, NAN]
    ),
    r"arg: expected an integer from 2 to 4, got [15]": rule(
        of(expect.integer, 2, 4), [2, 4], [1, 5]
    ),
    r"arg: expected a dictionary that JSON can hold, for the record of the run; ": rule(
        of(expect.record),
        [None, {}, {"policy": "flip", "lr": 0.1}],
        [{"net": NET}, {"lr": NAN}, 3, "flip"],
    ),
    r"arg: expected an integer >= 1, or 2 or 4 of them, got": rule(
        of(expect.integers, (2, 4)),
        [3, (1, 2), [1, 2, 3, 4], [5]],
        [0, (1, 0), (1, 2, 3), (1.0, 2), "12", None, True],
    ),
    r"arg: expected a finite number >= 0, got": rule(
        of(expect.number), [0, 0.5, np.float32(2)], [-1, NAN, INF, "1", None, True, 1j]
    ),
    r"arg: expected 3 finite numbers, got": rule(
        of(expect.numbers),
        [(1, 2, 3), [0.5, 0, -1], torch.ones(3), np.ones(3)],
        [(1, 2), 3, (1, 2, NAN), (1, INF, 2), "abc", torch.ones(1, 3), ()],
    ),
    r"arg: expected 1 or 3 finite numbers > 0, got": rule(
        of(expect.numbers, (1, 3), positive=True),
        [(1, 2, 3), [0.5]],
        [(1, 0, 1), (1, -1, 1), (), [0]],
    ),
    r"arg: expected 1 or 2 or 3 or 4 finite numbers, got": rule(
        of(expect.fill),
        [0, 0.5, (1, 2, 3), [0.5], torch.ones(3)],
        ["noise", None, (), (1, NAN), INF, (1,) * 5],
    ),
    r"arg: expected 1 or 3 numbers for X with 3 channels, got \(1, 2": rule(
        lambda value: expect.per_channel("arg", value, X8),
        [(1,), (1, 2, 3)],
        [(1, 2), (1, 2, 3, 4)],
    ),
    r"arg: expected 2 numbers >= 0, got": rule(
        of(expect.chances, 2),
        [(1, 0), [0.2, 0.3]],
        [(1,), (0, 0), (1, -1), (1, NAN), 2, None],
    ),
    r"arg: expected a finite number from 0 to 1, got": rule(
        of(expect.probability), [0, 1, 0.3], [-0.1, 1.1, NAN, "a", None, True]
    ),
    r"arg: expected two numbers \(min, max\) from 0 to 2, got": rule(
        of(expect.interval, 0, 2),
        [(0, 2), [1, 1], torch.tensor([0.5, 1])],
        [(1, 0), (-1, 1), (0, 3), (0, NAN), (1,), 1, "01", None],
    ),
    r"arg: expected a, b or c, got": rule(
        of(expect.choice, ("a", "b", "c")), ["a", "c"], ["d", None]
    ),
    r"arg: expected nearest, nearest-exact, bilinear or bicubic, got": rule(
        of(expect.interpolation),
        ["nearest", "bicubic", InterpolationMode.BILINEAR],
        ["lanczos", 2, None],
    ),
    r"arg: expected a crop that fits into 8 x 9 pixels, got \(": rule(
        lambda value: expect.spare("arg", value, (8, 9)),
        [(8, 9), (1, 1)],
        [(9, 9), (8, 10)],
    ),
    r"arg: expected something to call, such as ToTensor\(\), got (int|NoneType)": rule(
        of(expect.function, "ToTensor()"), [len, nn.ReLU(), lambda: None], [3, None]
    ),
    r"arg: ReLU is a class; make one first, ReLU\(\.\.\.\)": rule(
        of(expect.function, "ToTensor()"), [], [nn.ReLU]
    ),
    r"criterion: is called with two arguments, .*wrap it, lambda pred, y": rule(
        lambda value: expect.criterion(value, X8, X8),
        [nn.MSELoss(), torch.dist, lambda pred, y: 0],
        [lambda pred: 0, lambda pred, y, lam: 0],
    ),
    r"generator: expected a torch.Generator, got (int|module)": rule(
        expect.generator, [None, torch.Generator()], [3, torch]
    ),
    r"transforms: expected a list of them, got (RandomHor|None)": rule(
        lambda value: expect.transforms(value, Transform),
        [[], [FLIP], (FLIP, LAST)],
        [FLIP, None],
    ),
    r"transforms\[1\]: .*got ReLU of torch.*leave out ToTensor.*PerImage\(": rule(
        lambda value: expect.transforms(value, Transform),
        [[PerImage(nn.ReLU())]],
        [[FLIP, nn.ReLU()]],
    ),
    r"transforms\[1\]: has a generator; give it to the outermost": rule(
        lambda value: expect.transforms(value, Transform), [], [[FLIP, OWN]]
    ),
    r"arg: expected results of one size, got \[\(8, 8\), \(8, 9\)\]": rule(
        of(expect.one_size), [[(8, 8)], [(8, 9), (8, 9)]], [[(8, 9), (8, 8)]]
    ),
    r"img: expected an image \(a PIL image, or a tensor or array of .*, got": rule(
        expect.image,
        [Image.new("RGB", (2, 2)), X8[0], X8[0, 0], np.zeros((4, 5, 4), np.uint8)],
        ["cat.jpg", None, np.array(["a"]), [[1, 2]], X8.bool()],
    ),
    r"img: expected an image of shape \(H, W\), \(C, H, W\) .* channels, got \(": rule(
        expect.image,
        [],
        [X8, torch.zeros(2, 5, 5), torch.zeros(3, 0, 4), torch.zeros(3)],
    ),
    r"img: expected floats from 0 to 1, got up to .*divide by 255": rule(
        expect.image,
        [X8[0] + 1.001, X8[0] + NAN, X8[0] - 0.1],
        [X8[0] + 255, X8[0] + 2.1],
    ),
    r"img: expected integers from 0 to 255, got (-1 to -1|256 to 256)": rule(
        expect.image, [X8[0].int() + 255], [X8[0].int() - 1, X8[0].int() + 256]
    ),
    r"arg: expected a tensor as its result; end with .*, got (Image|nd|None)": rule(
        of(expect.tensor), [X8], [Image.new("RGB", (2, 2)), np.zeros(3), None]
    ),
    r"X: expected a batch, a tensor of uint8 or of floats from 0 to 1, got ": rule(
        expect.batch,
        [X8, X8.half(), X8.double(), X8.byte(), X8[:, :1], X8[:, [0, 1, 2, 0]]],
        ["cat", X8.int(), X8.bool(), np.zeros((2, 3, 8, 8))],
    ),
    r"X: expected a batch of shape \(n, 1 or 3, height, width\) \(Per.*, got \(": rule(
        lambda value: expect.batch(value, (1, 3)),
        [X8],
        [X8[0], X8[:0], X8[:, :2], X8.movedim(1, 3), X8[None]],
    ),
    r"X: expected floats from 0 to 1, got .* to .*divide .*, and normalize last": rule(
        expect.colors, [X8, X8 + 1.0005, X8.byte() + 255], [X8 + 255, X8 - 1, X8 + 1.1]
    ),
    r"arg: expected uint8 images of shape \(n, height, width, channels\), got": rule(
        of(expect.images),
        [np.zeros((2, 4, 4), np.uint8), X8.byte()[:, 0], X8.byte().movedim(1, 3)],
        [X8.movedim(1, 3), X8.byte(), X8.byte()[0, 0], X8.byte()[:0].movedim(1, 3)],
    ),
    r"arg: expected 2 labels, one for each image: class indices, or \(2, cl": rule(
        of(expect.labels, 2),
        [[0, 1], np.ones(2, np.int32), torch.ones(2, 5), torch.ones(2, 5).bool()],
        [[0], [0.0, 1.0], torch.ones(2, 5, 5), torch.ones(5, 2), 3],
    ),
    r"arg: expected a tensor of floats, got .*d2lext.batch.to_float": rule(
        of(expect.floats), [X8, X8.half()], [X8.byte(), None, [1.0]]
    ),
    r"arg: expected class indices, a tensor of integers of shape \(n,\), got": rule(
        of(expect.indices, 2),
        [torch.tensor([0, 1]), torch.ones(2, dtype=torch.int32)],
        [torch.ones(2), torch.ones(2, 2).long(), [0, 1], torch.ones(2).bool()],
    ),
    r"arg: expected class indices.*": rule(
        of(expect.indices, 2, soft=True),
        [torch.tensor([0, 1]), torch.rand(2, 5)],
        [torch.rand(2), torch.ones(2, 5).long(), [0, 1]],
    ),
    r"arg: expected shape \(n, c, h, w\), got \(3, 8, 8\)": rule(
        of(expect.shape, "(n, c, h, w)"), [X8], [X8[0]]
    ),
    r"other\[[01]\]: (expected|has 1 labels for 2 examples)": rule(
        lambda other: expect.mixable(X8, torch.tensor([0, 1]), other),
        [None, (X8, torch.tensor([1, 0]))],
        [
            (X8[:1], torch.tensor([1, 0])),
            (X8.byte(), torch.tensor([1, 0])),
            (X8, torch.tensor([1])),
            (X8, torch.rand(2, 5)),
        ],
    ),
    r"(lam: expected a number|criterion: expected 3 values).*, got": rule(
        lambda lam: expect.weights(lam, torch.rand(2)),
        [0.5, torch.tensor(0.5), torch.rand(2)],
        [torch.rand(2, 1), torch.rand(3)],
    ),
    r"arg: has 3 labels for 2 examples": rule(
        of(expect.indices, 2), [], [torch.zeros(3).long()]
    ),
    r"arg: expected a device of this machine, such as 'cpu', got": rule(
        of(expect.device),
        [None, "cpu", torch.device("cpu"), "meta"],
        ["nowhere", "cpu:x", 1.5],
    ),
    r"net: has lazy layers without weights; call net\(X\) once": rule(
        expect.initialized, [NET], [nn.Sequential(nn.LazyLinear(2))]
    ),
    r'net: is on cpu, but the data go to meta; .*net.to\("meta"\)': rule(
        lambda value: expect.on_device(NET, torch.device(value)), ["cpu"], ["meta"]
    ),
    r"trainer: holds none of net's weights": rule(
        lambda value: expect.trainer_of(NET, value),
        [torch.optim.SGD(NET.parameters(), 0.1)],
        [OTHER],
    ),
    r"arg: expected batches with a length, .*got (list_iterator|NoneType)": rule(
        of(expect.not_empty), [[1], range(3)], [iter([1]), None]
    ),
    r"y: expected class indices, integers of shape \(4,\), or .*, got": rule(
        lambda y: expect.targets(y, torch.zeros(4, 5)),
        [Y, Y.byte(), ONE_HOT, torch.rand(4, 5).softmax(1), 0.3 * ONE_HOT + 0.14],
        [Y * 1.0, Y[:, None], Y[:3], ONE_HOT.long(), torch.zeros(4, 4), [0, 1]],
    ),
    r"y: expected labels from 0 to 4, since net has 5 outputs, got -?\d+ to -?": rule(
        lambda y: expect.targets(y, torch.zeros(4, 5)), [Y + 1], [Y + 2, Y - 1, Y - 100]
    ),
    r"y: expected probabilities of 5 classes, which sum to 1, got sums": rule(
        lambda y: expect.targets(y, torch.zeros(4, 5)),
        [],
        [torch.rand(4, 5), 2 * ONE_HOT, 2 * ONE_HOT - 0.2, ONE_HOT * NAN],
    ),
    r"y: expected class indices, integers of shape \(2, 4, 4\)": rule(
        lambda y: expect.targets(y, torch.zeros(2, 3, 4, 4)),
        [torch.zeros(2, 4, 4, dtype=torch.int64), torch.full((2, 3, 4, 4), 1 / 3)],
        [torch.zeros(2, dtype=torch.int64), torch.zeros(2, 4, 4)],
    ),
    r"net: expected outputs \(n, classes\), of two classes or more, got \(4": rule(
        lambda pred: expect.targets(Y, pred),
        [torch.zeros(4, 5), torch.zeros(4, 5).bfloat16()],
        [torch.zeros(4), torch.zeros(4, 1)],
    ),
    r"loss: expected one value per example, shape \(4,\), got (one|shape)": rule(
        lambda l: expect.losses(l, Y, LOSS),
        [torch.zeros(4)],
        [torch.zeros(4, 4), torch.zeros(4, 1), torch.zeros(())],
    ),
    r"loss: expected one value per example, shape \(4,\), got": rule(
        lambda l: expect.losses(l, ONE_HOT, LOSS),
        [torch.zeros(4), torch.zeros(4, 5)],
        [torch.zeros(4, 4), torch.zeros(5)],
    ),
    r"loss: ignore_index=\d+ leaves examples out": rule(
        lambda i: expect.losses(Y, Y, nn.CrossEntropyLoss(ignore_index=i)),
        [-100],
        [0, 255],
    ),
    r'devices: expected one or several of "cpu".* got': rule(
        expect.devices,
        ["cpu", torch.device("cuda", 1), ["cuda:0", "cpu"]],
        [None, [], "gpu", ["cpu", None], 1.5],
    ),
    r"batch_size: 50 examples .* leave [12] for 3 processes": rule(
        lambda batches: expect.shares(50, batches, 3), [1, 16], [17, 50]
    ),
    r"net: would go its own way in each of 2 processes": rule(
        lambda net: expect.parallel(net, 2),
        [FullyShardedDataParallel(), nn.Sequential(FullyShardedDataParallel()), FROZEN],
        [NET, nn.Sequential(FullyShardedDataParallel(), NET)],
    ),
    r"arg: has no batches": rule(of(expect.not_empty), [], [[], ()]),
}


@pytest.mark.parametrize("words", RULES)
def test_rule(words):
    check, good, bad = RULES[words]
    for value in good:
        check(value)
    for value in bad:
        with pytest.raises((TypeError, ValueError), match=words):
            check(value)


@given(st.integers(1), st.floats(0, 1), st.tuples(st.floats(0, 1), st.floats(1, 2)))
def test_good_values_come_back_as_they_are(whole, part, pair):
    assert expect.integer("n", whole) == whole
    assert expect.integers("n", whole, (2,)) == (whole, whole)
    assert expect.probability("p", part) is part
    assert expect.number("x", part) is part
    assert expect.interval("r", list(pair), 0, 2) == pair
    assert expect.numbers("r", pair, (2,)) == pair


def test_images_become_what_they_show():
    rows = np.arange(75, dtype=np.uint8).reshape(5, 5, 3)
    for same in (rows, rows.astype(int), torch.from_numpy(rows).permute(2, 0, 1)):
        assert np.array_equal(np.asarray(expect.image(same)), rows)
    floats = torch.from_numpy(rows).permute(2, 0, 1) / 255
    assert np.array_equal(np.asarray(expect.image(floats.double())), rows)
    clipped = expect.image(torch.tensor([[-0.1, NAN, 1.5]]))
    assert np.asarray(clipped).tolist() == [[0, 0, 255]]
    assert expect.image(np.ones((5, 4, 1), np.uint8)).mode == "L"


def test_labels_become_what_losses_take():
    assert expect.labels("y", np.ones(2, np.int32), 2).dtype == torch.int64
    assert expect.labels("y", np.ones((2, 5)), 2).dtype == torch.float32
    assert expect.labels("y", torch.ones(2, 5).long(), 2).dtype == torch.int64
    assert expect.images("X", X8.byte()[:, 0]).shape == (2, 8, 8, 1)
