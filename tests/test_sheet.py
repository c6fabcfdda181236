"""Images of every kind, and their contact sheet."""

import numpy as np
import pytest
from PIL import Image

from d2lext.widgets.sheet import GAP, contact_sheet, plain

GRAY = np.arange(0, 65536, 257, dtype=np.uint16).reshape(16, 16)
BYTES = (GRAY // 257).astype(np.uint8)
HALF = Image.new("RGBA", (2, 2), (200, 0, 0, 128))


@pytest.mark.parametrize(
    ("img", "wanted"),
    [
        (Image.fromarray(GRAY), BYTES),
        (Image.fromarray(GRAY // 2), BYTES // 2),
        (Image.fromarray(GRAY.astype(np.int32)), BYTES),
        (Image.fromarray(BYTES.astype(np.int32)), BYTES),
        (Image.fromarray(BYTES.astype(np.float32) / 255), BYTES),
        (Image.fromarray(BYTES.astype(np.float32)), BYTES),
        (Image.fromarray(BYTES), BYTES),
        (HALF, [227, 127, 127]),
        (HALF.convert("RGBa"), [227, 127, 127]),
        (HALF.convert("LA"), [157] * 3),
        (HALF.convert("LA").convert("La"), [157] * 3),
        (Image.new("P", (2, 2), 0).convert("PA"), [0, 0, 0]),
        (Image.new("CMYK", (2, 2), (0, 255, 255, 0)), [255, 0, 0]),
        (Image.new("1", (2, 2), 1), [255] * 3),
        (Image.new("YCbCr", (2, 2), (255, 128, 128)), [255] * 3),
    ],
    ids=lambda value: getattr(value, "mode", ""),
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
