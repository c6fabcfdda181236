"""Paste images of any kind into one grid, each scaled to fit a tile."""

import base64
import io
import math
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from d2lext import expect

GAP = 6
FRAME = "#d55e00"
# The most pixels that draws work on. A fixed number, since stored pages must not depend
# on how fast a machine is.
BUDGET = 512 * 512


def plain(img: Image.Image, peak: float | None = None) -> Image.Image:
    """Convert an image of any mode to RGB: 16 bits and floats scaled, alpha on white.

    peak: the largest value in all images of the sheet.
    """
    if img.mode[0] in "IF":
        X, peak = _numbers(img), _numbers(img).max() if peak is None else peak
        whites = {"I": (255, 65535), "F": (1, 255, 65535)}.get(img.mode, (65535,))
        white = next((w for w in whites if peak <= w), peak)
        img = Image.fromarray((255 * X / white).round().astype(np.uint8))
    if img.has_transparency_data:
        img = (img.convert("LA") if img.mode == "La" else img).convert("RGBA")
        img = Image.alpha_composite(Image.new("RGBA", img.size, "white"), img)
    return img.convert("RGB")


def _numbers(img: Image.Image) -> np.ndarray:
    return np.nan_to_num(np.asarray(img, dtype=np.float64)).clip(0)


def within_budget(img: Image.Image) -> Image.Image:
    """The image, shrunk to BUDGET pixels if it has more."""
    shrink = math.sqrt(BUDGET / (img.width * img.height))
    if shrink >= 1:
        return img
    return img.resize([max(1, int(n * shrink)) for n in img.size])


def contact_sheet(
    images: list[Image.Image], num_cols: int, tile: int, *, frame: bool = False
) -> Image.Image:
    """Paste images into a grid of `num_cols` columns, none larger than `tile`.

    An image smaller than half a tile is enlarged by a whole factor.
    """
    if not images:
        raise ValueError("images: expected at least one")
    peaks = {}  # of each mode, so that a dark crop stays dark
    for img in images:
        if img.mode in "IF":
            peaks[img.mode] = max(peaks.get(img.mode, 0), _numbers(img).max())
    fitted = [_fitted(plain(img, peaks.get(img.mode)), tile) for img in images]
    width, height = (max(i.size[k] for i in fitted) + GAP for k in (0, 1))
    num_cols = min(num_cols, len(fitted))
    rows = math.ceil(len(fitted) / num_cols)
    sheet = Image.new("RGB", (num_cols * width + GAP, rows * height + GAP), "white")
    for i, img in enumerate(fitted):
        if frame and i == 0:
            img = ImageOps.expand(img, GAP // 2, FRAME)
        x = i % num_cols * width + (width + GAP - img.width) // 2
        y = i // num_cols * height + (height + GAP - img.height) // 2
        sheet.paste(img, (x, y))
    return sheet


def stacked(*images: Image.Image) -> Image.Image:
    """Images of one width, from top to bottom."""
    return Image.fromarray(np.concatenate(images))


def _fitted(img: Image.Image, tile: int) -> Image.Image:
    scale = tile / max(img.size)
    if scale < 1:
        size = [max(1, round(n * scale)) for n in img.size]
        return img.resize(size, Image.Resampling.BILINEAR)
    return img.resize([n * int(scale) for n in img.size], Image.Resampling.NEAREST)


def jpeg(img: Image.Image) -> str:
    buffer = io.BytesIO()
    img.save(buffer, "JPEG", quality=85)
    return base64.b64encode(buffer.getvalue()).decode()


def opened(img: object) -> Image.Image:
    """Return an image, a path, or the bytes of an image file as a PIL image."""
    if not isinstance(img, str | Path | bytes):
        return expect.image(img)
    try:
        file = io.BytesIO(img) if isinstance(img, bytes) else img
        return ImageOps.exif_transpose(Image.open(file))
    except (FileNotFoundError, IsADirectoryError):
        raise FileNotFoundError(f"img: there is no file {str(img)!r}") from None
    except UnidentifiedImageError:
        what = "this file" if isinstance(img, bytes) else repr(str(img))
        raise ValueError(
            f"img: {what} is not an image that can be opened; try a PNG or a JPEG"
        ) from None
