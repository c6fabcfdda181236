"""A pytest plugin: nbval compares images, too, by what they show.

nbval leaves PNG and JPEG outputs out of its comparison. Its hook for preparing an
output, `sanitize`, turns them into an `ImageOutput` here, which knows when it is equal.
"""

import base64
import io

import numpy as np
import pytest
from nbval.plugin import IPyNbCell
from PIL import Image

TYPES = ("image/png", "image/jpeg")
SIGNATURES = ("iVBORw0KGgo", "/9j/")  # how a PNG and a JPEG begin in base64

# Differences in colour, of 255. Tried on the images of lessons 01 to 03: JPEG at
# quality 80 changes a mean by up to 4.3 and a patch of 8 x 8 pixels by up to 13.6. A
# tile 10% darker, or an image moved by one pixel, changes some patch by at least 26.
PATCH = 8
MEAN_LIMIT = 6
PATCH_LIMIT = 20


class ImageOutput(str):
    """An image in base64, compared by content; as text, what nbval prints of it."""

    pixels: np.ndarray | None  # None if it cannot be decoded

    def __new__(cls, encoded: str) -> "ImageOutput":
        try:
            pixels = _decoded(encoded)
            (height, width), colors = pixels.shape[:2], pixels.mean(axis=(0, 1))
            color = ", ".join(f"{c:.0f}" for c in colors)
            text = f"an image of {width} x {height}, mean colour ({color})"
        except (OSError, SyntaxError, ValueError) as error:
            pixels, text = None, f"no image: {error}"
        self = super().__new__(cls, text)
        self.pixels = pixels
        return self

    def __eq__(self, other: object) -> bool:
        return difference(self, other) is None

    def __ne__(self, other: object) -> bool:
        return not self == other

    __hash__ = None


def _decoded(encoded: str) -> np.ndarray:
    """The colours as a page shows them, on white; (height, width, 3)."""
    with Image.open(io.BytesIO(base64.b64decode(encoded))) as opened:
        img = opened.convert("RGBA")
    page = Image.new("RGBA", img.size, "white")
    page.alpha_composite(img)
    return np.asarray(page.convert("RGB")).astype(np.int16)


def difference(stored: object, new: object) -> str | None:
    """In words, how two images differ; None if they show the same."""
    for name, value in (("stored", stored), ("new", new)):
        if getattr(value, "pixels", None) is None:
            return f"the {name} output is no image ({value!s:.60})"
    X, Y = stored.pixels, new.pixels
    if X.shape != Y.shape:
        return f"another size: stored is {stored}, new {new}"
    D = X - Y
    mean, patch = abs(D).mean(), _largest_patch(D)
    if mean <= MEAN_LIMIT and patch <= PATCH_LIMIT:
        return None
    return (
        f"stored is {stored}, new {new}; they differ by {mean:.1f} of 255 on "
        f"average (limit {MEAN_LIMIT}), and by {patch:.0f} in the patch that differs "
        f"most (limit {PATCH_LIMIT})"
    )


def _largest_patch(D: np.ndarray) -> float:
    height, width = D.shape[:2]
    padding = ((0, -height % PATCH), (0, -width % PATCH), (0, 0))
    D = np.pad(D, padding, mode="edge")
    rows, cols = D.shape[0] // PATCH, D.shape[1] // PATCH
    return abs(D.reshape(rows, PATCH, cols, PATCH, 3).mean(axis=(1, 3))).max()


def pytest_itemcollected(item: pytest.Item) -> None:
    if not isinstance(item, IPyNbCell):
        return
    item.parent.skip_compare = tuple(
        key for key in item.parent.skip_compare if key not in TYPES
    )
    as_text = item.sanitize
    item.sanitize = lambda output: (
        ImageOutput(output)
        if isinstance(output, str) and output.startswith(SIGNATURES)
        else as_text(output)
    )


def pytest_assertrepr_compare(left: object, right: object) -> list[str] | None:
    if isinstance(left, ImageOutput) or isinstance(right, ImageOutput):
        return [difference(left, right) or "the images show the same"]
    return None
