"""What a picture is, and showing many of them."""

import matplotlib

matplotlib.use("agg")
import numpy as np
import pytest
import torch
import torchvision
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib import pyplot as plt
from PIL import Image

import d2lext as d2l

CAT = Image.new("RGB", (50, 40), "brown")


@pytest.fixture(autouse=True)
def close_figures():
    yield
    plt.close("all")


@settings(max_examples=30)
@given(
    height=st.integers(5, 20),
    width=st.integers(5, 20),
    channels=st.sampled_from([1, 3]),
    seed=st.integers(0, 99),
)
def test_a_picture_survives_every_form(height, width, channels, seed):
    X = np.random.default_rng(seed).integers(
        0, 256, (height, width, channels), dtype=np.uint8
    )
    tensor = torch.from_numpy(X).permute(2, 0, 1)
    wanted = X[..., 0] if channels == 1 else X
    for form in (
        X,
        tensor,
        tensor / 255,
        tensor.long(),
        X / 255,
        tensor.double() / 255,
    ):
        assert np.array_equal(np.asarray(d2l.as_image(form)), wanted)
    assert np.array_equal(np.asarray(d2l.as_image(X[..., 0])), X[..., 0])


def test_values_outside_of_a_float_picture_are_cut_off():
    X = torch.tensor([[-3.0, 0.5], [1.5, float("nan")]])
    assert np.asarray(d2l.as_image(X)).tolist() == [[0, 128], [255, 0]]


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_pictures_are_shown(dtype):
    assert d2l.as_image(torch.ones(3, 4, 5, dtype=dtype)).size == (5, 4)


@pytest.mark.parametrize(
    ("what", "error", "words"),
    [
        ("cat.jpg", TypeError, "got str"),
        (None, TypeError, "got NoneType"),
        (torch.ones(3, 4, 4, dtype=torch.bool), TypeError, "Tensor of torch.bool"),
        (torch.zeros(2, 3, 4, 4), ValueError, r"got \(2, 3, 4, 4\)"),
        (torch.zeros(5, 6, 7), ValueError, r"got \(5, 6, 7\)"),
        (torch.zeros(3, 0, 4), ValueError, r"got \(3, 0, 4\)"),
        (torch.tensor([[0, 256]]), ValueError, "got 0 to 256"),
        (torch.tensor([[0.0, 255.0]]), ValueError, "divide by 255"),
    ],
)
def test_what_is_not_a_picture_is_refused_by_name(what, error, words):
    with pytest.raises(error, match=f"x: expected.*{words}"):
        d2l.as_image(what, "x")


def test_show_images_fills_its_grid_in_order():
    pictures = [np.full((4, 4, 3), v, dtype=np.uint8) for v in (0, 100, 200)]
    axes = d2l.show_images(pictures, 2, 2, titles=["a", "b", "c"])
    assert axes.shape == (4,)
    assert [int(ax.images[0].get_array().mean()) for ax in axes[:3]] == [0, 100, 200]
    assert [ax.get_title() for ax in axes] == ["a", "b", "c", ""]
    assert not axes[3].images


def test_show_images_wants_a_title_for_every_picture():
    with pytest.raises(ValueError, match="titles: expected 2, got 1"):
        d2l.show_images(torch.rand(2, 4, 4), 1, 2, titles=["a"])


def test_grid_counts_may_come_from_numpy():
    assert len(d2l.show_images(torch.rand(2, 4, 4), np.int64(1), np.int64(2))) == 2


def test_show_images_takes_the_books_tensors():
    # d2l's Fashion-MNIST (n, H, W) and its permuted batches (n, H, W, C).
    assert len(d2l.show_images(torch.rand(2, 28, 28), 1, 2)) == 2
    assert len(d2l.show_images(torch.rand(2, 28, 28, 3), 1, 2)) == 2


def test_gray_pictures_keep_their_values():
    (ax,) = d2l.show_images([torch.full((4, 4), 0.5)], 1, 1)
    assert ax.images[0].get_clim() == (0, 255)


def test_apply_draws_anew_for_every_tile():
    img = Image.fromarray(np.arange(40 * 50, dtype=np.uint8).reshape(40, 50))
    torch.manual_seed(0)
    d2l.apply(img, torchvision.transforms.RandomHorizontalFlip(), 4, 8)
    shown = [ax.images[0].get_array() for ax in plt.gcf().axes]
    mirrored = [np.array_equal(x, np.asarray(img)[:, ::-1]) for x in shown]
    assert len(shown) == 32
    assert 4 <= sum(mirrored) <= 28


def test_apply_hands_the_picture_over_as_it_is():
    given_types = []
    d2l.apply(torch.rand(3, 8, 8), lambda x: given_types.append(type(x)) or x, 1, 1)
    assert given_types == [torch.Tensor]


@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        (("cat.jpg", lambda x: x), TypeError, "img: expected a picture.*got str"),
        ((CAT, "flip"), TypeError, "aug: expected an augmentation.*got str"),
        ((CAT, lambda x: None), TypeError, "what aug returned: .*got NoneType"),
        ((CAT, lambda x: x, 0), ValueError, "num_rows: .*>= 1, got 0"),
        ((CAT, lambda x: x, 2, -1), ValueError, "num_cols: .*>= 1, got -1"),
        ((CAT, lambda x: x, 1.5), ValueError, "num_rows: .*got 1.5"),
        ((CAT, lambda x: x, True), ValueError, "num_rows: .*got True"),
        (
            (CAT, torchvision.transforms.ColorJitter),
            TypeError,
            r"aug: .*the class ColorJitter.*ColorJitter\(",
        ),
    ],
)
def test_apply_names_what_was_wrong(arguments, error, words):
    with pytest.raises(error, match=words):
        d2l.apply(*arguments)


def test_set_figsize_sets_inches_and_leaves_the_format(monkeypatch):
    monkeypatch.setitem(plt.rcParams, "figure.figsize", (1, 1))
    d2l.set_figsize((4, 3))
    assert plt.figure().get_size_inches().tolist() == [4, 3]
