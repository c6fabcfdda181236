"""The line of code under an explorer evaluates to what is shown."""

import functools
import sys
from functools import partial

import numpy as np
import pytest
import torch
import torchvision
from torchvision import transforms as OLD
from torchvision.transforms import v2

from d2lext.widgets import codeline


class Maker:
    def make(self, p):
        return v2.RandomVerticalFlip(p)

    __call__ = make


def test_a_lessons_names_come_before_paths(monkeypatch):
    main, maker = sys.modules["__main__"], Maker()
    nearest = v2.InterpolationMode.NEAREST
    for name, value in {"v2": v2, "maker": maker}.items():
        monkeypatch.setattr(main, name, value, raising=False)
    for line, draw, values in (
        ("v2.RandomHorizontalFlip(p=0.5)", v2.RandomHorizontalFlip, {"p": 0.5}),
        ("maker(p=0.5)", maker, {"p": 0.5}),
        ("maker.make(p=0.5)", maker.make, {"p": 0.5}),
        ("(lambda p: v2.Pad(p))(p=2)", lambda p: v2.Pad(p), {"p": 2}),
        ("torchvision.transforms.Pad(padding=2)", OLD.Pad, {"padding": 2}),
        (
            "v2.Resize(9, interpolation=v2.InterpolationMode.NEAREST, antialias=True)",
            partial(v2.Resize, 9, interpolation=nearest, antialias=False),
            {"antialias": True},
        ),
    ):
        assert codeline.call(draw, values) == line
        again = eval(line, vars(main) | {"torchvision": torchvision})
        assert repr(again) == repr(draw(**values))


def test_functions_without_a_path():
    """Lambdas on one line are told apart."""

    def local(p):
        return p

    three, four = (lambda p: 3), (lambda p: 4)
    assert codeline.name(three) == "(lambda p: 3)"
    assert codeline.name(four) == "(lambda p: 4)"
    assert codeline.name(eval("lambda p: 3")) == "..."
    assert codeline.name(local) == "local"


@pytest.mark.parametrize(
    "value",
    [
        [1, (2.5,), (), "it's", None, torch.float32],
        {"how": [v2.InterpolationMode.BILINEAR], 3: {}},
        partial(max, 3, key=abs),
        partial(max),
        v2.Resize,
        len,
    ],
)
def test_words_evaluate_to_the_value(value):
    names = {"functools": functools, "torch": torch, "torchvision": torchvision}
    assert repr(eval(codeline.word(value), names)) == repr(value)
    assert codeline.word((np.float64(0.5), np.int64(3))) == "(0.5, 3)"
