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
from PIL import Image, ImageOps
from torchvision import transforms as OLD  # noqa: F401 (REFUSED evaluates it)
from torchvision.transforms import v2

import d2lext as d2l
from d2lext import batch
from d2lext.widgets.sheet import BUDGET, GAP, contact_sheet, plain
from d2lext.widgets.sliders import seeded


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


CONTROLS = [
    (True, "Checkbox"),
    ([None, "a"], "Dropdown"),
    ((0, 8, 4), "IntSlider"),
    ((1, 9), "IntSlider"),
    ((0, 0.5), "FloatSlider"),
    ((0, 1), "FloatSlider"),
    ((0, 1, (0.2, 0.5)), "FloatRangeSlider"),
    ((0, 8, (2, 4)), "IntRangeSlider"),
    (widgets.FloatLogSlider(value=1), "FloatLogSlider"),
]


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
    calls = []

    def draw(p):
        calls.append(p)
        return v2.RandomHorizontalFlip(p)

    explorer = d2l.explore(draw, cat, p=(0, 1))
    row = {c.description: c for c in explorer.children[-2].children}
    start, draws = html(explorer), explorer.sheet.tobytes()
    row["Reroll"].click()
    assert explorer.seed.value == 1
    assert explorer.sheet.tobytes() != draws
    explorer.controls["p"].value = 0.1 + 0.2
    assert explorer.values == {"p": 0.3}  # with no binary rounding
    calls.clear()
    row["Reset"].click()
    assert calls == [0.5]  # drawn once
    assert (explorer.seed.value, explorer.controls["p"].value) == (0, 0.5)
    assert html(explorer) == start
    assert html(flips(cat, seed=1)) != html(flips(cat))


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
    note = f"2000 x 1600 RGB image, augmented at {width} x {height} as RGB"
    assert note in html(explorer)


def test_a_phones_rotation_is_followed(tmp_path):
    exif = Image.Exif()
    exif[274] = 6  # turn by a quarter
    Image.new("RGB", (80, 40)).save(tmp_path / "phone.jpg", exif=exif)
    explorer = flips(tmp_path / "phone.jpg", tile=80)
    assert explorer.sheet.size == (4 * (40 + GAP) + GAP, 2 * (80 + GAP) + GAP)


@pytest.mark.parametrize(("control", "kind"), CONTROLS)
def test_kinds_of_controls(cat, control, kind):
    explorer = d2l.explore(lambda **values: cat, some=control)
    made = explorer.controls["some"]
    assert type(made).__name__ == kind
    if kind == "FloatLogSlider":
        made.value = 10
        assert explorer.values == {"some": 10}


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
    assert "up to 200 MB" in tip(explorer.upload)
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
    assert {c.style.description_width for c in explorer.controls.values()} == {"8ch"}


def test_integers_or_fractions(cat):
    whole = d2l.explore(lambda k: lambda img: img, cat, k=(0, 2))
    assert "for fractions write 0.0" in tip(whole.controls["k"])
    for draw, name in (
        (v2.RandomSolarize, "threshold"),
        (partial(v2.GaussianBlur, 3), "sigma"),
    ):
        slider = d2l.explore(draw, cat, **{name: (1, 9, 2)}).controls[name]
        assert type(slider).__name__ == "FloatSlider"


FLIP = v2.RandomHorizontalFlip
REFUSED = r"""
"flip", cat                          | TypeError: draw: expected a function.*got str
FLIP, 7                              | TypeError: img: expected an image.*int
FLIP, "no.png"                       | FileNotFoundError: img: .*'no.png'
FLIP, "."                            | FileNotFoundError: img: .*no file
FLIP, cat, q=(0, 1)                  | TypeError: q: .*has p
FLIP, cat, p=0.5                     | TypeError: p: expected.*0.5
FLIP, cat, p=[]                      | TypeError: p: expected
FLIP, cat, p=(1, 0)                  | ValueError: p: .*low < high
FLIP, cat, p=("a", 1)                | ValueError: p: .*numbers
FLIP, cat, p=(0, 1, 2)               | ValueError: p: .*start 2 is not
FLIP, cat, p=(0, 1, (1, 0))          | ValueError: p: .*rising
FLIP, cat, num_rows=0                | ValueError: num_rows: .*0
FLIP, cat, tile=0.5                  | ValueError: tile: .*0.5
FLIP, cat, tile=(1, 9)               | TypeError: tile: .*no
FLIP, cat, seed=-1                   | ValueError: seed: .*-1
v2.ColorJitter(0.5), cat, hue=(0, 1) | TypeError: draw: .*class ColorJitter
OLD.ToTensor(), cat                  | TypeError: draw: .*class ToTensor, not one of
lambda img: img, cat                 | TypeError: draw: .*lambda p: .*sets img
FLIP, cat, p=[FLIP(), FLIP(0.9)]     | TypeError: p: the RandomHorizontalFlip has no
FLIP, cat, p=[[np.zeros(3)]]         | TypeError: p: the ndarray has no name
partial(FLIP, FLIP()), cat           | TypeError: draw: the RandomHorizontalFlip has no
v2.RandomCrop, cat                   | TypeError: size: .*size=.0.0, 1.0.*partial
lambda: None, cat                    | TypeError: draw: .*must return an augmentation
lambda: len, cat                     | TypeError: .*has no len
lambda: type, cat                    | TypeError: what the augmentation returned: .*type
lambda: 3                            | TypeError: what draw returned: .*int
lambda: []                           | ValueError: images: expected at least one
"""


@pytest.mark.parametrize("row", REFUSED.strip().splitlines())
def test_explore_names_what_was_wrong(cat, row):
    arguments, words = row.split(" | ")
    with pytest.raises((TypeError, ValueError, OSError)) as caught:
        eval(f"d2l.explore({arguments})", globals(), {"cat": cat})
    assert re.match(words, f"{caught.typename}: {caught.value}")


MODES = ["L", "1", "I;16", "I", "F", "LA", "La", "RGBA", "RGBa", "CMYK", "P", "YCbCr"]


def of_mode(mode, img):
    gray = np.asarray(img.convert("L"))
    numbers = {"I;16": gray.astype("u2") * 257, "I": gray * np.int32(257)}
    numbers["F"] = gray / np.float32(255)
    if mode in numbers:
        return Image.fromarray(numbers[mode])
    if mode[1:] in ("a", "A", "GBA", "GBa"):
        img.putalpha(img.convert("L"))
        return img.convert(mode[:-1] + "A").convert(mode)
    return img.convert(mode)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(
    ("draw", "controls", "takes"),
    [
        (v2.RandomHorizontalFlip, {"p": (0, 1)}, MODES),
        (v2.RandomResizedCrop, {"size": (10, 30)}, MODES),
        (v2.ColorJitter, {"contrast": (0, 1.0)}, ["L", "LA", "RGBA", "CMYK", "YCbCr"]),
        (v2.RandAugment, {"num_ops": [8]}, ["L"]),
        (batch.RandAugment, {"num_ops": (1, 4)}, ["L"]),
        (batch.RandomCrop, {"size": (10, 30)}, ["L", "RGBA"]),
    ],
)
def test_the_line_makes_what_is_shown_in_every_mode(cat, mode, draw, controls, takes):
    img = of_mode(mode, cat.resize((50, 40)))
    explorer, used = d2l.explore(draw, img, tile=50, **controls), img
    note = f"50 x 40 {mode} image, augmented at 50 x 40 as RGB"
    assert (note in html(explorer)) == ("d2lext-note" in html(explorer))
    if note in html(explorer):
        used = plain(img)
    assert (used is img) == (mode in takes)
    with seeded(0):
        aug = eval(explorer.code, {"torchvision": torchvision, "d2lext": d2l})
        if draw.__module__.startswith("d2lext"):
            X = v2.functional.pil_to_tensor(used).repeat(7, 1, 1, 1)
            draws = [d2l.expect.image(x) for x in aug(X)]
        else:
            draws = [aug(used) for _ in range(7)]
    wanted = contact_sheet([img, *draws], 4, 50, frame=True)
    assert explorer.sheet.tobytes() == wanted.tobytes()
    assert len({t.tobytes() for t in tiles(explorer, size=(50, 40))}) > 1
