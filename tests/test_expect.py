"""Every argument check of the package, once: what it takes, refuses and says."""

import math
import re

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn
from torchvision.transforms import InterpolationMode

from d2lext import expect
from d2lext.batch import Compose, Normalize, PerImage, RandomHorizontalFlip, Transform

USED = (Image, InterpolationMode, PerImage, Transform)  # in RULES
NAN, INF = math.nan, math.inf
X8 = torch.zeros(2, 3, 8, 8)
NET = nn.Linear(2, 2)
FLIP, LAST = RandomHorizontalFlip(), Normalize((0, 0, 0), (1, 1, 1))
OTHER = torch.optim.SGD(nn.Linear(2, 2).parameters(), 0.1)
OWN = Compose([], torch.Generator())
PRED, Y = torch.zeros(4, 5), torch.arange(4)
LOSS = nn.CrossEntropyLoss(reduction="none")
ONE_HOT = nn.functional.one_hot(Y, 5).float()
FROZEN = nn.Linear(2, 2).requires_grad_(False)
# Stands for PyTorch's, which needs a process group, by its name.
SHARDED = type("FullyShardedDataParallel", (nn.Linear,), {})(2, 2)

# A check of x and the words of its error; values that it takes, and that it refuses.
RULES = r"""
integer("arg", x) | arg: expected an integer >= 1, got
    takes 1, 7, np.int64(3)
    refuses 0, -1, 1.0, True, "1", None, NAN
integer("arg", x, 2, 4) | arg: expected an integer from 2 to 4, got [15]
    takes 2, 4
    refuses 1, 5
record("arg", x) | arg: expected a dictionary that JSON can hold, for the record
    takes None, {}, {"policy": "flip", "lr": 0.1}
    refuses {"net": NET}, {"lr": NAN}, 3, "flip"
integers("arg", x, (2, 4)) | arg: expected an integer >= 1, or 2 or 4 of them, got
    takes 3, (1, 2), [1, 2, 3, 4], [5]
    refuses 0, (1, 0), (1, 2, 3), (1.0, 2), "12", None, True
number("arg", x) | arg: expected a finite number >= 0, got
    takes 0, 0.5, np.float32(2)
    refuses -1, NAN, INF, "1", None, True, 1j
numbers("arg", x) | arg: expected 3 finite numbers, got
    takes (1, 2, 3), [0.5, 0, -1], torch.ones(3), np.ones(3)
    refuses (1, 2), 3, (1, 2, NAN), (1, INF, 2), "abc", torch.ones(1, 3), ()
numbers("arg", x, (1, 3), positive=True) | arg: expected 1 or 3 finite numbers > 0, got
    takes (1, 2, 3), [0.5]
    refuses (1, 0, 1), (1, -1, 1), (), [0]
fill("arg", x) | arg: expected 1 or 2 or 3 or 4 finite numbers, got
    takes 0, 0.5, (1, 2, 3), [0.5], torch.ones(3)
    refuses None, (), (1, NAN), INF, (1,) * 5
chances("arg", x, 2) | arg: expected numbers >= 0, and one above 0, got
    takes [1, 0], (0.5, 2)
    refuses [-1, 2], [0, 0]
per_channel("arg", x, X8) | arg: expected 1 or 3 numbers for X with 3 channels, got
    takes (1,), (1, 2, 3)
    refuses (1, 2), (1, 2, 3, 4)
interval("arg", x, 0, 2) | arg: expected two numbers \(min, max\) from 0 to 2, got
    takes (0, 2), [1, 1], torch.tensor([0.5, 1])
    refuses (1, 0), (-1, 1), (0, 3), (0, NAN), (1,), 1, "01", None
choice("arg", x, ("a", "b", "c")) | arg: expected a, b or c, got
    takes "a", "c"
    refuses "d", None
interpolation("arg", x) | arg: expected nearest, nearest-exact, bilinear or bicubic, got
    takes "nearest", "bicubic", InterpolationMode.BILINEAR
    refuses "lanczos", 2, None
spare("arg", x, (8, 9)) | arg: expected a crop that fits into 8 x 9 pixels, got \(
    takes (8, 9), (1, 1)
    refuses (9, 9), (8, 10)
function("arg", x, "ToTensor()") | arg: expected a callable, such.*, got (int|None)
    takes len, nn.ReLU(), lambda: None
    refuses 3, None
function("arg", x, "ToTensor()") | arg: ReLU is a class; call it first, ReLU\(\.\.\.\)
    refuses nn.ReLU
generator(x) | generator: expected a torch.Generator, got (int|module)
    takes None, torch.Generator()
    refuses 3, torch
transforms(x, Transform) | transforms: expected a list of them, got (RandomHor|None)
    takes [], [FLIP], (FLIP, LAST)
    refuses FLIP, None
transforms(x, Transform) | transforms\[1\]: .*got ReLU.*out ToTensor.*PerImage\(
    takes [PerImage(nn.ReLU())]
    refuses [FLIP, nn.ReLU()]
transforms(x, Transform) | transforms\[1\]: has a generator; give it to the outermost
    refuses [FLIP, OWN]
one_size("arg", x) | arg: expected results of one size, got \[\(8, 8\), \(8, 9\)\]
    takes [(8, 8)], [(8, 9), (8, 9)]
    refuses [(8, 9), (8, 8)]
image(x) | img: expected an image \(a PIL image, or a tensor or array of .*, got
    takes Image.new("RGB", (2, 2)), X8[0], X8[0, 0], np.zeros((4, 5, 4), np.uint8)
    refuses "cat.jpg", None, np.array(["a"]), [[1, 2]], X8.bool()
image(x) | img: expected an image of shape \(H, W\), \(C, H, W\) .* channels, got \(
    refuses X8, torch.zeros(2, 5, 5), torch.zeros(3, 0, 4), torch.zeros(3)
image(x) | img: expected floats from 0 to 1, got up to .*divide by 255
    takes X8[0] + 1.001, X8[0] + NAN, X8[0] - 0.1
    refuses X8[0] + 255, X8[0] + 2.1
image(x) | img: expected integers from 0 to 255, got (-1 to -1|256 to 256)
    takes X8[0].int() + 255
    refuses X8[0].int() - 1, X8[0].int() + 256
tensor("arg", x) | arg: expected a tensor as its result; .*, got (Image|nd|None)
    takes X8
    refuses Image.new("RGB", (2, 2)), np.zeros(3), None
batch(x) | X: expected a batch, a tensor of uint8 or of floats from 0 to 1, got
    takes X8, X8.half(), X8.double(), X8.byte(), X8[:, :1], X8[:, [0, 1, 2, 0]]
    refuses "cat", X8.int(), X8.bool(), np.zeros((2, 3, 8, 8))
batch(x, (1, 3)) | X: expected a batch of shape \(n, 1 or 3, height, width\).*, got \(
    takes X8
    refuses X8[0], X8[:0], X8[:, :2], X8.movedim(1, 3), X8[None]
colors(x) | X: expected floats from 0 to 1, got .* to .*divide .*, and normalize last
    takes X8, X8 + 1.0005, X8.byte() + 255
    refuses X8 + 255, X8 - 1, X8 + 1.1
images("arg", x) | arg: expected uint8 images of shape \(n, height, width, ch
    takes np.zeros((2, 4, 4), np.uint8), X8.byte()[:, 0], X8.byte().movedim(1, 3)
    refuses X8.movedim(1, 3), X8.byte(), X8.byte()[0, 0], X8.byte()[:0].movedim(1, 3)
labels("arg", x, 2) | arg: expected 2 labels, one for each image: class indices, or
    takes [0, 1], np.ones(2, np.int32), torch.ones(2, 5), torch.ones(2, 5).bool()
    refuses [0], [0.0, 1.0], torch.ones(2, 5, 5), torch.ones(5, 2), 3
floats("arg", x) | arg: expected a tensor of floats, got .*d2lext.batch.to_float
    refuses X8.byte(), None, [1.0]
indices("arg", x, 2) | arg: expected class indices, .*integers of shape \(n,\), got
    takes torch.tensor([0, 1]), torch.ones(2, dtype=torch.int32)
    refuses torch.ones(2), torch.ones(2, 2).long(), [0, 1], torch.ones(2).bool()
indices("arg", x, 2, soft=True) | arg: expected class indices.*
    takes torch.tensor([0, 1]), torch.rand(2, 5)
    refuses torch.rand(2), torch.ones(2, 5).long(), [0, 1]
shape("arg", x, "(n, c, h, w)") | arg: expected shape \(n, c, h, w\), got \(3, 8, 8\)
    refuses X8[0]
mixable(X8, Y[:2], x) | other\[[01]\]: (expected|has 1 labels for 2 examples)
    takes None, (X8, torch.tensor([1, 0]))
    refuses (X8[:1], torch.tensor([1, 0])), (X8.byte(), torch.tensor([1, 0])),
    refuses (X8, torch.tensor([1])), (X8, torch.rand(2, 5))
weights(x, torch.rand(2)) | (lam: expected a number|criterion: expected 3 values).*, got
    takes 0.5, torch.tensor(0.5), torch.rand(2)
    refuses torch.rand(2, 1), torch.rand(3)
indices("arg", x, 2) | arg: has 3 labels for 2 examples
    refuses torch.zeros(3).long()
initialized(x) | net: has lazy layers without weights; call net\(X\) once
    refuses nn.Sequential(nn.LazyLinear(2))
trainer_of(NET, x) | trainer: holds none of net's weights
    refuses OTHER
not_empty("arg", x) | arg: expected batches with a length, .*got (list_it|None)
    refuses iter([1]), None
targets(x, PRED) | y: expected class indices, integers of shape \(4,\), or .*, got
    takes Y, Y.byte(), ONE_HOT, torch.rand(4, 5).softmax(1), 0.3 * ONE_HOT + 0.14
    refuses Y * 1.0, Y[:, None], Y[:3], ONE_HOT.long(), torch.zeros(4, 4), [0, 1]
targets(x, PRED) | y: expected labels from 0 to 4, since net has 5 outputs, got -?\d+ to
    takes Y + 1
    refuses Y + 2, Y - 1, Y - 100
targets(x, PRED) | y: expected probabilities of 5 classes, which sum to 1, got sums
    refuses torch.rand(4, 5), 2 * ONE_HOT, 2 * ONE_HOT - 0.2, ONE_HOT * NAN
targets(x, torch.zeros(2, 3, 4, 4)) | y: .*indices, integers of shape \(2, 4, 4\)
    takes torch.zeros(2, 4, 4, dtype=torch.int64), torch.full((2, 3, 4, 4), 1 / 3)
    refuses torch.zeros(2, dtype=torch.int64), torch.zeros(2, 4, 4)
targets(Y, x) | net: expected outputs \(n, classes\), of two classes or more, got \(4
    takes torch.zeros(4, 5), torch.zeros(4, 5).bfloat16()
    refuses torch.zeros(4), torch.zeros(4, 1)
losses(x, Y, LOSS) | loss: expected one value per example, shape \(4,\), got (one|shape)
    takes torch.zeros(4)
    refuses torch.zeros(4, 4), torch.zeros(4, 1), torch.zeros(())
losses(x, ONE_HOT, LOSS) | loss: expected one value per example, shape \(4,\), got
    takes torch.zeros(4), torch.zeros(4, 5)
    refuses torch.zeros(4, 4), torch.zeros(5)
losses(Y, Y, nn.CrossEntropyLoss(ignore_index=x)) | ignore_index=\d+ leaves examples out
    refuses 0, 255
devices(x) | devices: expected one or several of "cpu".* got
    takes "cpu", torch.device("cuda", 1), ["cuda:0", "cpu"]
    refuses None, [], "gpu", ["cpu", None], 1.5
shares(50, x, 3) | batch_size: 50 examples .* leave [12] for 3 processes
    takes 1, 16
    refuses 17, 50
parallel(x, 2) | net: its copies would diverge in 2 processes
    takes SHARDED, nn.Sequential(SHARDED), FROZEN
    refuses NET, nn.Sequential(SHARDED, NET)
not_empty("arg", x) | arg: has no batches
    refuses [], ()
"""


@pytest.mark.parametrize("rule", re.split(r"\n(?! )", RULES.strip()))
def test_rule(rule):
    head, *lines = rule.split("\n")
    code, words = head.split(" | ")
    check = eval(f"lambda x: {code}", globals() | vars(expect))
    for line in lines:
        verb, values = line.split(maxsplit=1)
        for value in eval(f"[{values}]", globals()):
            if verb == "takes":
                check(value)
                continue
            with pytest.raises((TypeError, ValueError), match=words):
                check(value)


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
