"""The line of code under an explorer evaluates to what is shown."""

import functools
import sys
from functools import partial

import numpy as np
import pytest
import torch
import torchvision
from PIL import Image
from torchvision import transforms as OLD
from torchvision.transforms import v2

import d2lext as d2l
from d2lext.widgets import codeline

B = v2.InterpolationMode
LINES = [
    (v2.RandomHorizontalFlip, {"p": (0, 1)}, "v2.RandomHorizontalFlip(p=0.5)"),
    (OLD.RandomHorizontalFlip, {"p": (0, 1)}, "RandomHorizontalFlip(p=0.5)"),
    (
        partial(v2.RandomResizedCrop, (20, 20), ratio=(1, 1)),
        {"scale": (0.02, 1)},
        "v2.RandomResizedCrop((20, 20), ratio=(1, 1), scale=(0.08, 1.0))",
    ),
    (
        partial(v2.RandomRotation, interpolation=B.BILINEAR),
        {"degrees": (0, np.int64(180), 30)},
        "v2.RandomRotation(interpolation=torchvision.transforms."
        "InterpolationMode.BILINEAR, degrees=30)",
    ),
    (
        partial(v2.RandomRotation, 30),
        {"expand": True, "interpolation": [B.NEAREST, B.BILINEAR]},
        "v2.RandomRotation(30, expand=True, interpolation=torchvision.transforms."
        "InterpolationMode.NEAREST)",
    ),
    (v2.ColorJitter, {"brightness": (0, 2)}, "v2.ColorJitter(brightness=1.0)"),
]


@pytest.mark.parametrize(("draw", "controls", "code"), LINES)
def test_the_code_line_runs_and_makes_the_setting(draw, controls, code):
    cat = Image.new("RGB", (50, 40))
    explorer = d2l.explore(draw, cat, **controls)
    assert explorer.code == "torchvision.transforms." + code
    again = eval(explorer.code, {"torchvision": torchvision})
    assert repr(again) == repr(explorer._draw(**explorer.values))


class Maker:
    def __call__(self, p):
        return v2.RandomHorizontalFlip(p)

    def make(self, p):
        return v2.RandomVerticalFlip(p)


def test_a_lessons_names_come_before_paths(monkeypatch):
    main, maker = sys.modules["__main__"], Maker()
    for name, value in {"v2": v2, "maker": maker, "partial": partial}.items():
        monkeypatch.setattr(main, name, value, raising=False)
    lines = {
        "v2.RandomHorizontalFlip(p=0.5)": v2.RandomHorizontalFlip,
        "maker(p=0.5)": maker,
        "maker.make(p=0.5)": maker.make,
        "(lambda p: v2.RandomHorizontalFlip(p))(p=0.5)": (
            lambda p: v2.RandomHorizontalFlip(p)
        ),
    }
    for line, draw in lines.items():
        assert codeline.call(draw, {"p": 0.5}) == line
        assert repr(eval(line, vars(main))) == repr(draw(0.5))


def test_lambdas_on_one_line_are_told_apart():
    three, four = (lambda p: 3), (lambda p: 4)
    assert codeline.name(three) == "(lambda p: 3)"
    assert codeline.name(four) == "(lambda p: 4)"
    assert codeline.name(eval("lambda p: 3")) == "..."


@pytest.mark.parametrize(
    "value",
    [
        [1, (2.5,), ()],
        "it's",
        None,
        partial(max, 3, key=abs),
        partial(max),
        v2.InterpolationMode.BILINEAR,
        {"how": [v2.InterpolationMode.BILINEAR], 3: {}},
        torch.float32,
        v2.Resize,
        len,
    ],
)
def test_words_evaluate_to_the_value(value):
    names = {"functools": functools, "torch": torch, "torchvision": torchvision}
    again = eval(codeline.word(value), names)
    assert repr(again) == repr(value)


def test_numpy_numbers_become_pythons():
    assert codeline.word((np.float64(0.5), np.int64(3))) == "(0.5, 3)"


def test_a_lessons_own_function_is_called_by_its_bare_name():
    def pipeline(flip, how):
        return v2.RandomHorizontalFlip(float(flip))

    pipeline.__module__, pipeline.__qualname__ = "__main__", "pipeline"
    explorer = d2l.explore(pipeline, Image.new("L", (9, 9)), flip=True, how=["a", "b"])
    explorer.controls["how"].value = "b"
    assert explorer.code == "pipeline(flip=True, how='b')"
