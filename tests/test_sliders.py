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
import torchvision
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from torchvision.transforms import v2

import d2lext as d2l
from d2lext.sliders import GAP, contact_sheet, seeded

T = torchvision.transforms


@pytest.fixture(scope="module")
def cat():
    return Image.open(d2l.data_path("cat.jpg"))


def tiles(explorer, rows=2, cols=4, size=(160, 128)):
    """The pictures of a sheet, each a float array (height, width, 3)."""
    sheet, (w, h) = np.asarray(explorer.sheet, dtype=float), size
    starts = [
        (GAP + r * (h + GAP), GAP + c * (w + GAP)) for r, c in np.ndindex(rows, cols)
    ]
    return [sheet[y : y + h, x : x + w] for y, x in starts]


def html(explorer):
    return explorer.children[-1].value


def shown(explorer):
    """The picture in the page, decoded."""
    data = re.search(r'src="data:image/jpeg;base64,([^"]+)"', html(explorer))[1]
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(data))), dtype=float)


def flips(cat, **more):
    return d2l.explore(T.RandomHorizontalFlip, cat, p=(0, 1), **more)


def test_first_tile_is_the_original_and_the_rest_are_draws(cat):
    explorer = flips(cat)
    explorer.controls["p"].value = 1
    first, *others = tiles(explorer)
    small = cat.copy()
    small.thumbnail((160, 160))
    assert np.array_equal(first, np.asarray(small))
    assert all(np.array_equal(t, first[:, ::-1]) for t in others)
    explorer.controls["p"].value = 0
    assert all(np.array_equal(t, first) for t in tiles(explorer))


def test_a_move_changes_the_page_and_the_stored_picture(cat):
    explorer = d2l.explore(T.ColorJitter, cat, brightness=(0, 1, 0.5))
    page, stored = html(explorer), explorer._repr_mimebundle_()["image/jpeg"]
    explorer.controls["brightness"].value = 1
    assert html(explorer) != page
    bundle = explorer._repr_mimebundle_()
    assert bundle["image/jpeg"] != stored
    assert bundle["image/jpeg"] in html(explorer)
    assert bundle["text/plain"].startswith("torchvision.transforms.ColorJitter(brightn")
    assert abs(shown(explorer) - np.asarray(explorer.sheet, dtype=float)).mean() < 6


def test_seed_reroll_and_reset(cat):
    explorer = flips(cat)
    row = {c.description: c for c in explorer.children[-2].children}
    start = html(explorer)
    row["Reroll"].click()
    assert explorer.seed.value == 1
    assert html(explorer) != start
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


@pytest.mark.parametrize(
    ("draw", "controls", "code"),
    [
        (T.RandomHorizontalFlip, {"p": (0, 1)}, "RandomHorizontalFlip(p=0.5)"),
        (v2.RandomHorizontalFlip, {"p": (0, 1)}, "v2.RandomHorizontalFlip(p=0.5)"),
        (
            partial(T.RandomResizedCrop, (20, 20), ratio=(1, 1)),
            {"scale": (0.02, 1)},
            "RandomResizedCrop((20, 20), ratio=(1, 1), scale=(0.08, 1.0))",
        ),
        (T.RandomRotation, {"degrees": (0, 180, 30)}, "RandomRotation(degrees=30)"),
    ],
)
def test_the_code_line_runs_and_makes_the_setting(cat, draw, controls, code):
    explorer = d2l.explore(draw, cat, **controls)
    assert explorer.code == "torchvision.transforms." + code
    assert explorer.code in html(explorer)
    again = eval(explorer.code, {"torchvision": torchvision})
    assert repr(again) == repr(explorer._draw(**explorer.values))


def test_a_lessons_own_function_is_called_by_its_bare_name(cat):
    def pipeline(flip, how):
        return T.RandomHorizontalFlip(float(flip))

    pipeline.__module__, pipeline.__qualname__ = "__main__", "pipeline"
    explorer = d2l.explore(pipeline, cat, flip=True, how=["a", "b"])
    explorer.controls["how"].value = "b"
    assert explorer.code == "pipeline(flip=True, how='b')"


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
        explorer = d2l.explore(T.RandomResizedCrop, cat, size=(20, 200, 100))
        explorer.controls["size"].value = 50
        assert draws() == wanted


def test_numpy_and_python_draws_follow_the_seed_too(cat):
    def noise(low):
        return lambda img: np.full(
            (9, 9), np.random.randint(low, 99) + random.randint(0, 99)
        )

    a, b = (d2l.explore(noise, cat, low=(0, 9, 1), seed=3) for _ in range(2))
    assert html(a) == html(b)


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
        return T.RandomHorizontalFlip(p)

    explorer = d2l.explore(moody, cat, p=(0, 1, 0.5))
    good = html(explorer)
    with pytest.raises(RuntimeError):  # so that a cell which does this fails
        explorer.controls["p"].value = 1
    assert 'role="alert"' in html(explorer)
    assert "RuntimeError: p &lt;must&gt; not be so large" in html(explorer)
    assert "<img" in html(explorer)
    explorer.controls["p"].value = 0.5
    assert html(explorer) == good


def test_a_move_from_the_browser_reaches_the_picture(cat):
    explorer = flips(cat)
    page = html(explorer)
    explorer.controls["p"].set_state({"value": 1.0})
    assert html(explorer) != page


def upload(explorer, content):
    explorer.upload.set_state(
        {
            "value": [
                {
                    "name": "mine",
                    "type": "",
                    "size": len(content),
                    "content": memoryview(content),
                    "last_modified": 0,
                }
            ]
        }
    )


def png(color, mode="RGB"):
    buffer = io.BytesIO()
    Image.new(mode, (300, 100), color).save(buffer, "PNG")
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("color", "mode"), [("blue", "RGB"), ((0, 0, 255, 255), "RGBA")]
)
def test_ones_own_picture_can_be_uploaded(cat, color, mode):
    explorer = flips(cat)
    upload(explorer, png(color, mode))
    assert explorer.sheet.size == (4 * (160 + GAP) + GAP, 2 * (53 + GAP) + GAP)
    assert (tiles(explorer, size=(160, 53))[0] == [0, 0, 255]).all()


def test_an_upload_that_is_no_picture_says_so_and_changes_nothing(cat):
    explorer = flips(cat)
    page = html(explorer)
    with pytest.raises(ValueError, match="not a picture"):
        upload(explorer, b"Dear cat,")
    assert "this file is not a picture that can be opened" in html(explorer)
    explorer.reset()
    assert html(explorer) == page


def test_a_picture_from_a_path_and_a_tensor(cat, tmp_path):
    path = tmp_path / "Katze 猫.png"
    path.write_bytes(png("blue"))
    assert (tiles(flips(path), size=(160, 53))[0] == [0, 0, 255]).all()
    assert (tiles(flips(str(path)), size=(160, 53))[0] == [0, 0, 255]).all()
    small = flips(torch.ones(3, 32, 32), tile=64)
    assert small.sheet.size == (4 * (64 + GAP) + GAP, 2 * (64 + GAP) + GAP)


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
    assert all(c.tooltip for c in (*explorer.controls.values(), *row))
    alt = re.search(r'alt="([^"]+)"', html(explorer))[1]
    assert "RandomHorizontalFlip(p=0.5), seed 0" in alt


def test_code_and_errors_cannot_break_out_of_the_page(cat):
    explorer = d2l.explore(lambda how: cat, how=['"><script>', "b"])
    assert "<script>" not in html(explorer)


def test_contact_sheet_keeps_small_pixels_square():
    rng = np.random.default_rng(0)
    X = rng.integers(0, 256, (32, 32, 3), dtype=np.uint8)
    sheet = np.asarray(contact_sheet([Image.fromarray(X)], 1, 160))
    assert np.array_equal(sheet[GAP:-GAP, GAP:-GAP], X.repeat(5, 0).repeat(5, 1))


@pytest.mark.parametrize(
    ("arguments", "controls", "error", "words"),
    [
        (("flip", "CAT"), {}, TypeError, "draw: expected a function.*got str"),
        ((T.RandomHorizontalFlip, 7), {}, TypeError, "img: expected an image.*int"),
        ((T.RandomHorizontalFlip, "no.png"), {}, FileNotFoundError, "img: .*'no.png'"),
        ((T.RandomHorizontalFlip, "CAT"), {"q": (0, 1)}, TypeError, "q: .*has p"),
        ((T.RandomHorizontalFlip, "CAT"), {"p": 0.5}, TypeError, "p: expected.*0.5"),
        ((T.RandomHorizontalFlip, "CAT"), {"p": []}, TypeError, "p: expected"),
        ((T.RandomHorizontalFlip, "CAT"), {"p": (1, 0)}, ValueError, "p: .*low < high"),
        ((T.RandomHorizontalFlip, "CAT"), {"p": ("a", 1)}, ValueError, "p: .*numbers"),
        (
            (T.RandomHorizontalFlip, "CAT"),
            {"p": (0, 1, 2)},
            ValueError,
            "start 2 is not",
        ),
        ((T.RandomHorizontalFlip, "CAT"), {"p": (0, 1, (1, 0))}, ValueError, "rising"),
        ((T.ColorJitter(0.5), "CAT"), {"hue": (0, 1)}, TypeError, "class ColorJitter"),
        ((T.RandomHorizontalFlip, "."), {}, FileNotFoundError, "img: .*no file"),
        ((T.RandomHorizontalFlip, "CAT"), {"num_rows": 0}, ValueError, "num_rows: .*0"),
        ((T.RandomHorizontalFlip, "CAT"), {"tile": True}, ValueError, "tile: .*True"),
        ((T.RandomHorizontalFlip, "CAT"), {"seed": -1}, ValueError, "seed: .*-1"),
        ((lambda: None, "CAT"), {}, TypeError, "draw: .*must return an augmentation"),
        ((lambda: len, "CAT"), {}, TypeError, "has no len"),
        (
            (lambda: type, "CAT"),
            {},
            TypeError,
            "what the augmentation returned: .*type",
        ),
        ((lambda: 3,), {}, TypeError, "what draw returned: .*int"),
        ((lambda: [],), {}, ValueError, "pictures: expected at least one"),
    ],
)
def test_explore_names_what_was_wrong(cat, arguments, controls, error, words):
    arguments = [cat if a == "CAT" else a for a in arguments]
    with pytest.raises(error, match=words):
        d2l.explore(*arguments, **controls)
