"""The explorer, driven from Python as the browser drives it: through its widgets."""

import base64
import io
import random
import re
from functools import partial

import ipywidgets as widgets
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageOps
from torchvision import transforms as OLD
from torchvision.transforms import v2

import d2lext as d2l
from d2lext.sheet import BUDGET, GAP
from d2lext.sliders import seeded


@pytest.fixture(scope="module")
def cat():
    return Image.open(d2l.data_path("cat.jpg"))


def tiles(explorer, rows=2, cols=4, size=(160, 128)):
    """The images of a sheet, each a float array (height, width, 3)."""
    sheet, (w, h) = np.asarray(explorer.sheet, dtype=float), size
    starts = [
        (GAP + r * (h + GAP), GAP + c * (w + GAP)) for r, c in np.ndindex(rows, cols)
    ]
    return [sheet[y : y + h, x : x + w] for y, x in starts]


def tip(widget):
    return getattr(widget, "tooltip", None) or widget.description_tooltip


def html(explorer):
    return explorer.children[-1].value


def shown(explorer):
    """The image in the page, decoded."""
    data = re.search(r'src="data:image/jpeg;base64,([^"]+)"', html(explorer))[1]
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(data))), dtype=float)


def flips(cat, **more):
    return d2l.explore(v2.RandomHorizontalFlip, cat, p=(0, 1), **more)


def test_first_tile_is_the_original_and_the_rest_are_draws(cat):
    explorer = flips(cat)
    explorer.controls["p"].value = 1
    first, *others = tiles(explorer)
    small = cat.resize((160, 128), Image.Resampling.BILINEAR)
    assert np.array_equal(first, np.asarray(small))
    small = ImageOps.mirror(cat).resize((160, 128), Image.Resampling.BILINEAR)
    assert all(np.array_equal(t, np.asarray(small)) for t in others)
    explorer.controls["p"].value = 0
    assert all(np.array_equal(t, first) for t in tiles(explorer))


def test_a_move_changes_the_page_and_the_stored_image(cat):
    explorer = d2l.explore(v2.ColorJitter, cat, brightness=(0, 1, 0.5))
    page, stored = html(explorer), explorer._repr_mimebundle_()["image/jpeg"]
    explorer.controls["brightness"].value = 1
    assert html(explorer) != page
    bundle = explorer._repr_mimebundle_()
    assert bundle["image/jpeg"] != stored
    assert bundle["image/jpeg"] in html(explorer)
    assert bundle["text/plain"].startswith("torchvision.transforms.v2.ColorJitter(")
    assert abs(shown(explorer) - np.asarray(explorer.sheet, dtype=float)).mean() < 6


def test_seed_reroll_and_reset(cat):
    explorer = flips(cat)
    row = {c.description: c for c in explorer.children[-2].children}
    start, draws = html(explorer), explorer.sheet.tobytes()
    row["Reroll"].click()
    assert explorer.seed.value == 1
    assert explorer.sheet.tobytes() != draws
    explorer.controls["p"].value = 0.9
    row["Reset"].click()
    assert (explorer.seed.value, explorer.controls["p"].value) == (0, 0.5)
    assert html(explorer) == start
    assert html(flips(cat, seed=1)) != start


def test_reset_draws_once(cat):
    calls = []

    def draw(a, b):
        calls.append((a, b))
        return cat

    explorer = d2l.explore(draw, a=(0, 1, 0.5), b=(0, 1, 0.5))
    explorer.controls["a"].value = explorer.controls["b"].value = 1
    explorer.seed.value = 5
    calls.clear()
    explorer.reset()
    assert calls == [(0.5, 0.5)]


def test_values_carry_no_binary_rounding(cat):
    explorer = flips(cat)
    explorer.controls["p"].value = 0.1 + 0.2
    assert explorer.values == {"p": 0.3}


def test_the_lessons_own_random_stream_stays_where_it_was(cat):
    def draws():
        return torch.rand(3).tolist(), np.random.rand(), random.random()

    with seeded(7):
        wanted = draws()
    with seeded(7):
        explorer = d2l.explore(v2.RandomResizedCrop, cat, size=(20, 200, 100))
        explorer.controls["size"].value = 50
        assert draws() == wanted


def test_numpy_and_python_draws_follow_the_seed_too(cat):
    def noise(low):
        return lambda img: np.full(
            (9, 9), np.random.randint(low, 99) + random.randint(0, 99)
        )

    first = d2l.explore(noise, cat, low=(0, 9, 1), seed=3)
    random.random(), np.random.rand()  # move their streams on
    assert html(d2l.explore(noise, cat, low=(0, 9, 1), seed=3)) == html(first)


def test_an_augmentation_cannot_change_the_original(cat):
    def blacken(p):
        def aug(img):
            img.paste("black", (0, 0, *img.size))
            return img

        return aug

    explorer = d2l.explore(blacken, cat, p=(0, 1))
    first, second, *_ = tiles(explorer)
    assert first.mean() > 50
    assert second.mean() == 0


def test_an_error_is_shown_in_words_and_the_next_move_works(cat):
    def moody(p):
        if p > 0.9:
            raise RuntimeError("p <must> not be so large")
        return v2.RandomHorizontalFlip(p)

    explorer = d2l.explore(moody, cat, p=(0, 1, 0.5))
    good = html(explorer)
    with pytest.raises(RuntimeError):  # so that a cell which does this fails
        explorer.controls["p"].value = 1
    assert 'role="alert"' in html(explorer)
    assert "RuntimeError: p &lt;must&gt; not be so large" in html(explorer)
    assert "<img" in html(explorer)
    explorer.controls["p"].value = 0.5
    assert html(explorer) == good


def test_a_move_from_the_browser_reaches_the_image(cat):
    explorer = flips(cat)
    page = html(explorer)
    explorer.controls["p"].set_state({"value": 1.0})
    assert html(explorer) != page


def upload(explorer, content):
    file = {"content": memoryview(content), "name": "mine", "type": ""}
    if isinstance(explorer.upload.value, dict):  # ipywidgets 7
        explorer.upload.set_trait("value", {"mine": {"content": content}})
    else:
        file |= {"size": len(content), "last_modified": 0}
        explorer.upload.set_state({"value": [file]})


def png(color, mode="RGB"):
    buffer = io.BytesIO()
    Image.new(mode, (300, 100), color).save(buffer, "PNG")
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("color", "mode"), [("blue", "RGB"), ((0, 0, 255, 255), "RGBA")]
)
def test_ones_own_image_can_be_uploaded(cat, color, mode):
    explorer = flips(cat)
    upload(explorer, png(color, mode))
    assert explorer.sheet.size == (4 * (160 + GAP) + GAP, 2 * (53 + GAP) + GAP)
    assert (tiles(explorer, size=(160, 53))[0] == [0, 0, 255]).all()
    explorer.reset()
    assert html(explorer) == html(flips(cat))


def test_an_upload_that_is_no_image_says_so_and_changes_nothing(cat):
    explorer = flips(cat)
    page = html(explorer)
    with pytest.raises(ValueError, match="not an image"):
        upload(explorer, b"Dear cat,")
    assert "this file is not an image that can be opened" in html(explorer)
    explorer.reset()
    assert html(explorer) == page


def test_a_image_from_a_path_and_a_tensor(cat, tmp_path):
    path = tmp_path / "Katze 猫.png"
    path.write_bytes(png("blue"))
    assert (tiles(flips(path), size=(160, 53))[0] == [0, 0, 255]).all()
    assert (tiles(flips(str(path)), size=(160, 53))[0] == [0, 0, 255]).all()
    small = flips(torch.ones(3, 32, 32), tile=64)
    assert small.sheet.size == (4 * (64 + GAP) + GAP, 2 * (64 + GAP) + GAP)


def test_draws_work_on_the_image_at_its_own_size(cat):
    sizes = []

    def seen(p):
        return lambda img: sizes.append(img.size) or img

    explorer = d2l.explore(seen, cat, p=(0, 1))
    assert set(sizes) == {cat.size}
    assert "augmented at" not in html(explorer)
    explorer = d2l.explore(seen, cat.resize((2000, 1600)), p=(0, 1))
    width, height = sizes[-1]
    assert 0.99 * BUDGET < width * height <= BUDGET
    assert width / height == pytest.approx(1.25, rel=0.01)
    assert f"2000 x 1600 pixels, augmented at {width} x {height}" in html(explorer)


def test_a_phones_rotation_is_followed(tmp_path):
    exif = Image.Exif()
    exif[274] = 6  # turn by a quarter
    Image.new("RGB", (80, 40)).save(tmp_path / "phone.jpg", exif=exif)
    explorer = flips(tmp_path / "phone.jpg", tile=80)
    assert explorer.sheet.size == (4 * (40 + GAP) + GAP, 2 * (80 + GAP) + GAP)


def test_kinds_of_controls(cat):
    def draw(**values):
        return cat

    own = widgets.FloatLogSlider(value=1)
    explorer = d2l.explore(
        draw,
        switch=True,
        menu=[None, "a"],
        whole=(0, 8, 4),
        middle=(1, 9),
        real=(0, 1),
        both=(0, 1, (0.2, 0.5)),
        wholes=(0, 8, (2, 4)),
        own=own,
    )
    kinds = {name: type(c).__name__ for name, c in explorer.controls.items()}
    assert kinds == {
        "switch": "Checkbox",
        "menu": "Dropdown",
        "whole": "IntSlider",
        "middle": "IntSlider",
        "real": "FloatSlider",
        "both": "FloatRangeSlider",
        "wholes": "IntRangeSlider",
        "own": "FloatLogSlider",
    }
    assert explorer.values["real"] == 0.5
    own.value = 10
    assert explorer.values["own"] == 10


@given(low=st.floats(-1e3, 1e3), span=st.floats(1e-3, 1e3), at=st.floats(0, 1))
def test_any_range_makes_a_slider_that_keeps_its_start(low, span, at):
    high = low + span
    start = min(high, low + at * span)
    explorer = d2l.explore(lambda p: Image.new("L", (4, 4)), p=(low, high, start))
    slider = explorer.controls["p"]
    assert slider.value == pytest.approx(start)
    assert 15 <= span / slider.step <= 2000


@pytest.mark.parametrize(
    ("low", "high", "start", "step"),
    [
        (0, 1, 0.5, 0.05),
        (0, 0.5, 0.1, 0.025),
        (0.02, 1, (0.1, 1), 0.02),
        (0.25, 4, (0.5, 2), 0.05),
        (0.1, 5.0, (0.1, 3.0), 0.1),
    ],
)
def test_a_browser_can_reach_the_start_and_the_end(low, high, start, step):
    explorer = d2l.explore(lambda p: Image.new("L", (4, 4)), p=(low, high, start))
    assert explorer.controls["p"].step == step


def test_every_control_can_be_named_by_a_screen_reader(cat):
    explorer = flips(cat)
    row = explorer.children[-2].children
    assert all(map(tip, (*explorer.controls.values(), *row)))
    assert "MB" in tip(explorer.upload)
    alt = re.search(r'alt="([^"]+)"', html(explorer))[1]
    assert "RandomHorizontalFlip(p=0.5), seed 0" in alt


def test_code_and_errors_cannot_break_out_of_the_page(cat):
    explorer = d2l.explore(lambda how: cat, how=['"><script>', "b"])
    assert "<script>" not in html(explorer)


def test_parameters_may_have_the_names_of_options(cat):
    def draw(seed, tile, num_rows, img):
        return v2.RandomCrop(tile)

    controls = dict(seed=(0, 9), tile=(50, 99), num_rows=[1, 2], img=True)
    explorer = d2l.explore(draw, cat, **controls)
    assert explorer.values == {"seed": 4, "tile": 74, "num_rows": 1, "img": True}
    assert explorer.seed.value == 0


def test_integers_or_fractions(cat):
    whole = d2l.explore(lambda k: lambda img: img, cat, k=(0, 2))
    assert type(whole.controls["k"]).__name__ == "IntSlider"
    assert "for fractions write 0.0" in tip(whole.controls["k"])
    for draw, name in ((v2.RandomSolarize, "threshold"), (v2.GaussianBlur, "sigma")):
        draw = draw if name == "threshold" else partial(draw, 3)
        slider = d2l.explore(draw, cat, **{name: (1, 9, 2)}).controls[name]
        assert type(slider).__name__ == "FloatSlider"


@pytest.mark.parametrize(
    ("arguments", "controls", "error", "words"),
    [
        (("flip", "CAT"), {}, TypeError, "draw: expected a function.*got str"),
        ((v2.RandomHorizontalFlip, 7), {}, TypeError, "img: expected an image.*int"),
        ((v2.RandomHorizontalFlip, "no.png"), {}, FileNotFoundError, "img: .*'no.png'"),
        ((v2.RandomHorizontalFlip, "CAT"), {"q": (0, 1)}, TypeError, "q: .*has p"),
        ((v2.RandomHorizontalFlip, "CAT"), {"p": 0.5}, TypeError, "p: expected.*0.5"),
        ((v2.RandomHorizontalFlip, "CAT"), {"p": []}, TypeError, "p: expected"),
        (
            (v2.RandomHorizontalFlip, "CAT"),
            {"p": (1, 0)},
            ValueError,
            "p: .*low < high",
        ),
        ((v2.RandomHorizontalFlip, "CAT"), {"p": ("a", 1)}, ValueError, "p: .*numbers"),
        (
            (v2.RandomHorizontalFlip, "CAT"),
            {"p": (0, 1, 2)},
            ValueError,
            "start 2 is not",
        ),
        ((v2.RandomHorizontalFlip, "CAT"), {"p": (0, 1, (1, 0))}, ValueError, "rising"),
        ((v2.ColorJitter(0.5), "CAT"), {"hue": (0, 1)}, TypeError, "class ColorJitter"),
        ((v2.RandomHorizontalFlip, "."), {}, FileNotFoundError, "img: .*no file"),
        (
            (v2.RandomHorizontalFlip, "CAT"),
            {"num_rows": 0},
            ValueError,
            "num_rows: .*0",
        ),
        ((v2.RandomHorizontalFlip, "CAT"), {"tile": 0.5}, ValueError, "tile: .*0.5"),
        ((v2.RandomHorizontalFlip, "CAT"), {"tile": (1, 9)}, TypeError, "tile: .*no"),
        ((lambda img: img, "CAT"), {}, TypeError, "img: .*does not take the image"),
        ((v2.RandomCrop, "CAT"), {}, TypeError, "size: .*size=.0.0, 1.0.*partial"),
        ((OLD.ToTensor(), "CAT"), {}, TypeError, "class ToTensor, not one that is"),
        ((v2.RandomHorizontalFlip, "CAT"), {"seed": -1}, ValueError, "seed: .*-1"),
        ((lambda: None, "CAT"), {}, TypeError, "draw: .*must return an augmentation"),
        ((lambda: len, "CAT"), {}, TypeError, "has no len"),
        (
            (lambda: type, "CAT"),
            {},
            TypeError,
            "what the augmentation returned: .*type",
        ),
        ((lambda: 3,), {}, TypeError, "what draw returned: .*int"),
        ((lambda: [],), {}, ValueError, "images: expected at least one"),
    ],
)
def test_explore_names_what_was_wrong(cat, arguments, controls, error, words):
    arguments = [cat if a == "CAT" else a for a in arguments]
    with pytest.raises(error, match=words):
        d2l.explore(*arguments, **controls)
