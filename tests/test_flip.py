"""Showing images: the book's `apply` and `show_images`."""

import matplotlib

matplotlib.use("agg")
import numpy as np
import pytest
import torch
from matplotlib import pyplot as plt
from PIL import Image
from torchvision.transforms import v2

import d2lext as d2l
from tests.common import refused

CAT = Image.new("RGB", (50, 40), "brown")


@pytest.fixture(autouse=True)
def close_figures():
    yield
    plt.close("all")


def test_show_images_fills_its_grid_row_by_row():
    images = [np.full((4, 4, 3), v, dtype=np.uint8) for v in (0, 50, 100, 150, 200)]
    axes = d2l.show_images(images, 2, 3, titles=list("abcde"))
    assert axes.shape == (6,)
    shown = [int(ax.images[0].get_array().mean()) for ax in axes[:5]]
    assert shown == [0, 50, 100, 150, 200]
    assert [ax.get_title() for ax in axes] == ["a", "b", "c", "d", "e", ""]
    assert not axes[5].images
    row, column = (axes[i].get_position() for i in (1, 3))
    assert row.x0 > axes[0].get_position().x0 == column.x0
    assert not any(ax.axison for ax in axes)
    # What does not fit is left out.
    assert all(ax.images for ax in d2l.show_images(images, 2, 2, titles=list("abcd")))
    with pytest.raises(ValueError, match="titles: expected 4, got 3"):
        d2l.show_images(images, 2, 2, titles=list("abc"))


@pytest.mark.parametrize("shape", [(28, 28), (28, 28, 3), (3, 28, 28), (28, 28, 1)])
def test_show_images_takes_the_books_tensors(shape):
    X = torch.arange(np.prod(shape)).remainder(200).reshape(shape)
    (ax,) = d2l.show_images([X.to(torch.uint8)], np.int64(1), np.int64(1), scale=2)
    wanted = X.permute(1, 2, 0) if shape[0] == 3 else X.squeeze()
    assert np.array_equal(ax.images[0].get_array(), wanted)
    assert ax.images[0].get_clim() == (0, 255)  # gray images keep their values
    assert ax.figure.get_size_inches().tolist() == [2, 2]


def test_apply_draws_anew_for_every_tile_from_the_image_as_it_is():
    seen = []
    X = torch.arange(0, 250).reshape(10, 25).byte()
    flip = v2.RandomHorizontalFlip()
    d2l.apply(X, lambda x: seen.append(x) or flip(x[None])[0], 4, 8)
    shown = [ax.images[0].get_array() for ax in plt.gcf().axes]
    mirrored = [np.array_equal(x, X.flip(1)) for x in shown]
    assert len(shown) == 32 and all(x is X for x in seen)
    assert 4 <= sum(mirrored) <= 28


REFUSED = r"""
d2l.apply("cat.jpg", v2.Identity())   | img: expected an image.*got str
d2l.apply(CAT, "flip")                | aug: expected a callable.*got str
d2l.apply(CAT, v2.ColorJitter)        | aug: .*call it first, ColorJitter\(
d2l.apply(CAT, print)                 | what aug returned: .*got NoneType
d2l.apply(CAT, v2.Identity(), 0)      | num_rows: .*>= 1, got 0
d2l.apply(CAT, v2.Identity(), 2, 1.5) | num_cols: .*>= 1, got 1.5
"""
test_apply_names_what_was_wrong = refused(globals(), REFUSED)
