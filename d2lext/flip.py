"""Collected from notebooks/01_flip.ipynb, where it is explained.

Edit the lesson, then run `python -m tools.collect`.
"""

import numpy as np
import torch
from matplotlib import pyplot as plt
from PIL import Image

__all__ = ["apply", "as_image", "set_figsize", "show_images"]


# 01_flip.ipynb: save-as-image
def as_image(img: object, name: str = "img") -> Image.Image:
    """Return a picture as a PIL image; `name` is what an error calls it.

    A picture is a PIL image, or a tensor or array of shape (H, W), (C, H, W) or
    (H, W, C) with 1, 3 or 4 channels: whole numbers from 0 to 255, or floating point
    numbers from 0 to 1 (a little outside is cut off, beyond 2 refused).
    Raises TypeError for another type, ValueError for another shape or range.
    """
    if isinstance(img, Image.Image):
        return img
    X = img
    if isinstance(img, torch.Tensor):
        X = img.detach().cpu()
        X = (X.float() if X.is_floating_point() else X).numpy()
    if not isinstance(X, np.ndarray) or X.dtype.kind not in "iuf":
        of = f" of {img.dtype}" if hasattr(img, "dtype") else ""
        raise TypeError(
            f"{name}: expected a picture (a PIL image, or a tensor or array of "
            f"numbers), got {type(img).__name__}{of}"
        )
    return _from_array(X, name)


# 01_flip.ipynb: save-from-array
def _from_array(X: np.ndarray, name: str) -> Image.Image:
    channels = (1, 3, 4)
    if X.ndim == 3 and X.shape[-1] not in channels and X.shape[0] in channels:
        X = X.transpose(1, 2, 0)  # (C, H, W) -> (H, W, C)
    fits = X.ndim == 2 or (X.ndim == 3 and X.shape[2] in channels)
    if not fits or X.size == 0:
        raise ValueError(
            f"{name}: expected a picture of shape (H, W), (C, H, W) or (H, W, C) with "
            f"1, 3 or 4 channels, got {X.shape}"
        )
    if X.dtype.kind == "f":
        if np.nan_to_num(X).max() > 2:
            raise ValueError(
                f"{name}: expected floating point numbers from 0 to 1, got up to "
                f"{X.max():.0f}; divide by 255?"
            )
        X = (np.nan_to_num(X).clip(0, 1) * 255).round()
    elif X.min() < 0 or X.max() > 255:
        raise ValueError(
            f"{name}: expected whole numbers from 0 to 255, got {X.min()} to {X.max()}"
        )
    X = X.astype(np.uint8)
    return Image.fromarray(X[..., 0] if X.shape[2:] == (1,) else X)


# 01_flip.ipynb: save-show-images
def set_figsize(figsize: tuple[float, float] = (3.5, 2.5)) -> None:
    """Set the size of the figures that follow, in inches (d2l 2.4)."""
    plt.rcParams["figure.figsize"] = figsize


def _check_grid(num_rows, num_cols):
    for name, n in (("num_rows", num_rows), ("num_cols", num_cols)):
        if not isinstance(n, int | np.integer) or isinstance(n, bool) or n < 1:
            raise ValueError(f"{name}: expected a whole number >= 1, got {n!r}")


def show_images(imgs, num_rows, num_cols, titles=None, scale=1.5):
    """Show pictures in a grid and return its axes, a flat array (d2l 4.2).

    imgs: pictures as `as_image` takes them; `scale` is a tile's side in inches.
    """
    _check_grid(num_rows, num_cols)
    imgs = [as_image(img, f"imgs[{i}]") for i, img in enumerate(imgs)]
    wanted = min(len(imgs), num_rows * num_cols)
    if titles and len(titles) < wanted:
        raise ValueError(f"titles: expected {wanted}, got {len(titles)}")
    figsize = (num_cols * scale, num_rows * scale)
    # "compressed" draws pictures of one shape close together.
    _, axes = plt.subplots(
        num_rows, num_cols, figsize=figsize, squeeze=False, layout="compressed"
    )
    axes = axes.flatten()
    for i, ax in enumerate(axes):
        ax.set_axis_off()
        if i < len(imgs):
            ax.imshow(imgs[i], cmap="gray", vmin=0, vmax=255)
            ax.set_title(titles[i] if titles else "")
    return axes


# 01_flip.ipynb: save-apply
def apply(img, aug, num_rows=2, num_cols=4, scale=1.5):
    """Show num_rows * num_cols draws of one augmentation (d2l 14.1).

    img: a picture as `as_image` takes it, given to `aug` as it is.
    Raises TypeError or ValueError, naming the argument, for a picture that is none,
    an `aug` that cannot be called or does not return a picture, or an empty grid.
    """
    as_image(img)
    _check_grid(num_rows, num_cols)
    if not callable(aug) or isinstance(aug, type):
        name = getattr(aug, "__name__", "")
        got = f"the class {name}; write {name}(...)" if name else type(aug).__name__
        raise TypeError(
            "aug: expected an augmentation such as RandomHorizontalFlip(), something "
            f"to call, got {got}"
        )
    Y = [as_image(aug(img), "what aug returned") for _ in range(num_rows * num_cols)]
    show_images(Y, num_rows, num_cols, scale=scale)
