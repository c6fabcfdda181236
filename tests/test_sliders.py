"""The explorer, driven from Python as the browser drives it: through its widgets."""

import base64
import io
import random
import re
from functools import partial  # noqa: F401 (REFUSED evaluates it)

import ipywidgets as widgets
import numpy as np
import pytest
import torch
import torchvision
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


def tiles(explorer, size=(160, 128)):
    """The images of a sheet, each a float array (height, width, 3)."""
    sheet, (w, h) = np.asarray(explorer.sheet, dtype=float), size
    starts = [(GAP + r * (h + GAP), GAP + c * (w + GAP)) for r, c in np.ndindex(2, 4)]
    return [sheet[y : y + h, x : x + w] for y, x in starts]


def html(explorer):
    return explorer.children[-1].value


def flips(cat, **more):
    return d2l.explore(v2.RandomHorizontalFlip, cat, p=(0, 1), **more)


def test_first_tile_is_the_original_and_the_rest_are_draws(cat):
    explorer, pages = flips(cat), set()
    for p, img in ((1, ImageOps.mirror(cat)), (0, cat)):
        explorer.controls["p"].value = p
        first, *others = tiles(explorer)
        assert np.array_equal(first, cat.resize((160, 128), Image.Resampling.BILINEAR))
        small = img.resize((160, 128), Image.Resampling.BILINEAR)
        assert all(np.array_equal(t, small) for t in others)
        stored = explorer._repr_mimebundle_()
        assert stored["text/plain"] == f"{explorer.code}  # seed 0"
        assert f'src="data:image/jpeg;base64,{stored["image/jpeg"]}"' in html(explorer)
        img = Image.open(io.BytesIO(base64.b64decode(stored["image/jpeg"])))
        assert abs(np.asarray(img) - np.asarray(explorer.sheet, float)).mean() < 6
        pages.add(html(explorer))
    assert len(pages) == 2


def test_seed_reroll_and_reset(cat):
    def draw(p):
        calls.append(p)
        return v2.RandomHorizontalFlip(p)

    calls, start = [], flips(cat).sheet
    explorer = d2l.explore(draw, cat, p=(0, 1))
    row = {c.description: c for c in explorer.children[-2].children}
    row["Reroll"].click()
    assert explorer.seed.value == 1
    assert explorer.sheet == flips(cat, seed=1).sheet != start
    explorer.controls["p"].value = 0.1 + 0.2
    assert explorer.values == {"p": 0.3}  # with no binary rounding
    calls.clear()
    row["Reset"].click()
    assert calls == [0.5]  # drawn once
    assert (explorer.seed.value, explorer.controls["p"].value) == (0, 0.5)
    assert explorer.sheet == start


def test_draws_follow_the_seed_and_leave_the_lessons_stream_alone(cat):
    def draws():
        return torch.rand(3).tolist(), np.random.rand(), random.random()

    def noise(p):
        return lambda img: torch.tensor([[torch.rand(()), *draws()[1:]]])

    with seeded(7):
        wanted = draws()
    with seeded(7):
        explorer = d2l.explore(noise, cat, p=(0, 1), seed=3)
        first = html(explorer)
        explorer.controls["p"].value = 1
        assert draws() == wanted
    draws()  # moves the lesson's streams on
    explorer.reset()
    assert html(explorer) == first


def test_an_augmentation_cannot_change_the_original(cat):
    def blacken(img):
        img.paste("black", (0, 0, *img.size))
        return img

    first, second, *_ = tiles(d2l.explore(lambda p: blacken, cat, p=(0, 1)))
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
    file = {"name": "mine", "type": "", "size": len(content), "last_modified": 0}
    explorer.upload.set_state({"value": [file | {"content": memoryview(content)}]})


def png(color, mode="RGB"):
    buffer = io.BytesIO()
    Image.new(mode, (300, 100), color).save(buffer, "PNG")
    return buffer.getvalue()


def test_ones_own_image(cat, tmp_path):
    """From a path or uploaded; what is no image says so and changes nothing."""
    path, phone, exif = tmp_path / "Katze 猫.png", tmp_path / "phone", Image.Exif()
    path.write_bytes(png("blue"))
    exif[274] = 6  # turned by a quarter
    Image.new("RGB", (100, 300), "blue").save(phone, "PNG", exif=exif)
    tensor = torch.tensor([0, 0, 1.0]).expand(100, 300, 3).permute(2, 0, 1)
    explorers = [*map(flips, (path, str(path), phone, tensor, cat, cat))]
    upload(explorers[-2], png("blue"))
    upload(explorers[-1], png((0, 0, 255, 255), "RGBA"))
    for explorer in explorers:
        assert explorer.sheet.size == (4 * (160 + GAP) + GAP, 2 * (53 + GAP) + GAP)
        assert (tiles(explorer, size=(160, 53))[0] == [0, 0, 255]).all()
    with pytest.raises(ValueError, match="not an image"):
        upload(explorer, b"Dear cat,")
    assert "this file is not an image that can be opened" in html(explorer)
    explorer.reset()
    assert html(explorer) == html(flips(cat))


def test_draws_work_on_the_image_at_its_own_size(cat):
    def seen(img):
        sizes.append(img.size)
        return img

    sizes, large = [], cat.resize((2000, 1600))
    assert "augmented at" not in html(d2l.explore(lambda: seen, cat))
    assert set(sizes) == {cat.size}
    explorer = d2l.explore(lambda: seen, large)
    width, height = sizes[-1]
    assert 0.99 * BUDGET < width * height <= BUDGET
    assert width / height == pytest.approx(1.25, rel=0.01)
    note = f"2000 x 1600 RGB image, augmented at {width} x {height} as RGB"
    assert note in html(explorer)


@pytest.mark.parametrize(
    ("control", "kind", "step"),
    [
        (True, "Checkbox", None),
        ([None, "a"], "Dropdown", None),
        ((0, 8, 4), "IntSlider", 1),
        ((1, 9), "IntSlider", 1),
        ((0, 0.5, 0.1), "FloatSlider", 0.025),
        ((0, 1), "FloatSlider", 0.05),
        ((0, 0.7301), "FloatSlider", 0.025),  # no round step reaches this end
        ((0, 8, (2, 4)), "IntRangeSlider", 1),
        ((0.02, 1, (0.1, 1)), "FloatRangeSlider", 0.02),
        ((0.25, 4, (0.5, 2)), "FloatRangeSlider", 0.05),
        ((0.1, 5.0, (0.1, 3.0)), "FloatRangeSlider", 0.1),
        (widgets.FloatLogSlider(value=1), "FloatLogSlider", 0.1),
    ],
)
def test_kinds_of_controls_and_steps_that_reach_start_and_end(cat, control, kind, step):
    explorer = d2l.explore(lambda **values: cat, some=control)
    made = explorer.controls["some"]
    assert (type(made).__name__, getattr(made, "step", None)) == (kind, step)
    assert explorer.values == {"some": made.value}
    assert kind != "IntSlider" or "for fractions write" in made.tooltip


def test_every_control_can_be_named_by_a_screen_reader(cat):
    explorer = flips(cat)
    row = explorer.children[-2].children
    assert all(control.tooltip for control in (*explorer.controls.values(), *row))
    assert "up to 200 MB" in explorer.upload.tooltip
    alt = re.search(r'alt="([^"]+)"', html(explorer))[1]
    assert "RandomHorizontalFlip(p=0.5), seed 0" in alt
    script = d2l.explore(lambda how: cat, how=['"><script>', "b"])
    assert "<script>" not in html(script)


def test_what_a_function_says_of_its_parameters(cat):
    """They may have the names of options, and a float gets fractions."""

    def draw(seed, tile, num_rows, img, part: float, sigma=0.5):
        return v2.RandomCrop(tile)

    controls = dict(seed=(0, 9), tile=(50, 99), num_rows=[1, 2], img=True)
    explorer = d2l.explore(draw, cat, **controls, part=(1, 9), sigma=(1, 9, 2))
    options = {"seed": 4, "tile": 74, "num_rows": 1, "img": True}
    assert explorer.values == options | {"part": 5.0, "sigma": 2}
    assert explorer.seed.value == 0
    for name, control in explorer.controls.items():
        assert control.style.description_width == "8ch"
        fractions = isinstance(control, widgets.FloatSlider)
        assert fractions == (name in ("part", "sigma"))


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
BEFORE = {"I;16": "L", "La": "LA", "RGBa": "RGBA"}  # no way leads there from RGB


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
    img = cat.resize((50, 40)).convert(BEFORE.get(mode, "RGB")).convert(mode)
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


GRAY = np.arange(0, 65536, 257, dtype=np.uint16).reshape(16, 16)
BYTES = (GRAY // 257).astype(np.uint8)
HALF = Image.new("RGBA", (2, 2), (200, 0, 0, 128))


@pytest.mark.parametrize(
    ("img", "wanted"),
    [
        (Image.fromarray(GRAY // 2), BYTES // 2),
        (Image.fromarray(GRAY.astype(np.int32)), BYTES),
        (Image.fromarray(BYTES.astype(np.int32)), BYTES),
        (Image.fromarray(BYTES.astype(np.float32) / 255), BYTES),
        (HALF, [227, 127, 127]),
        (HALF.convert("RGBa"), [227, 127, 127]),
        (HALF.convert("LA"), [157] * 3),
        (HALF.convert("LA").convert("La"), [157] * 3),
        (Image.new("P", (2, 2), 0).convert("PA"), [0, 0, 0]),
        (Image.new("CMYK", (2, 2), (0, 255, 255, 0)), [255, 0, 0]),
        (Image.new("1", (2, 2), 1), [255] * 3),
        (Image.new("YCbCr", (2, 2), (255, 128, 128)), [255] * 3),
    ],
)
def test_images_of_every_mode_show_what_they_are(img, wanted):
    shown = np.asarray(plain(img)).astype(int)
    wanted = np.asarray(wanted)
    wanted = wanted[..., None] if wanted.ndim == 2 else wanted
    assert abs(shown - wanted).max() <= 1


def test_contact_sheet_keeps_small_pixels_square():
    rng = np.random.default_rng(0)
    X = rng.integers(0, 256, (32, 32, 3), dtype=np.uint8)
    sheet = np.asarray(contact_sheet([Image.fromarray(X)], 1, 160))
    assert np.array_equal(sheet[GAP:-GAP, GAP:-GAP], X.repeat(5, 0).repeat(5, 1))


@pytest.mark.parametrize("X", [GRAY.astype(np.int32), BYTES.astype(np.float32)])
def test_a_dark_part_of_an_image_stays_dark(X):
    img = Image.fromarray(X)
    sheet = np.asarray(contact_sheet([img, img.crop((0, 0, 16, 1))], 2, 16))
    assert abs(sheet[GAP, GAP : GAP + 16, 0] - BYTES[0].astype(int)).max() <= 1
    dark = sheet[:, GAP + 16 + GAP : -GAP]
    assert dark[(dark != 255).all(2)].max() <= 16
