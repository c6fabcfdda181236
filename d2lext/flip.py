"""Collected from notebooks/01_flip.ipynb, where it is explained.

Edit the lesson, then run `python -m tools.collect`.
"""

# fmt: off
from matplotlib import pyplot as plt

from d2lext import expect


# 01_flip.ipynb: save-show-images
def set_figsize(figsize: tuple[float, float] = (3.5, 2.5)) -> None:
    """Set the size of the figures that follow, in inches (d2l 2.4)."""
    plt.rcParams["figure.figsize"] = figsize


def show_images(imgs, num_rows, num_cols, titles=None, scale=1.5):
    """Show images in a grid and return its axes, a flat array (d2l 4.2)."""
    rows = expect.integer("num_rows", num_rows)
    cols = expect.integer("num_cols", num_cols)
    imgs = [expect.image(img, f"imgs[{i}]") for i, img in enumerate(imgs)][:rows * cols]
    titles = expect.at_least("titles", titles or [""] * len(imgs), len(imgs))
    # "compressed" draws images of one shape close together.
    _, axes = plt.subplots(rows, cols, figsize=(cols * scale, rows * scale),
                           squeeze=False, layout="compressed")
    axes = axes.flatten()
    for ax in axes:
        ax.set_axis_off()
    for ax, img, title in zip(axes, imgs, titles, strict=False):
        ax.imshow(img, cmap="gray", vmin=0, vmax=255)
        ax.set_title(title)
    return axes


# 01_flip.ipynb: save-apply
def apply(img, aug, num_rows=2, num_cols=4, scale=1.5):
    """Show num_rows * num_cols draws of one augmentation (d2l 14.1)."""
    expect.image(img)
    expect.function("aug", aug, "RandomHorizontalFlip()")
    n = expect.integer("num_rows", num_rows) * expect.integer("num_cols", num_cols)
    Y = [expect.image(aug(img), "what aug returned") for _ in range(n)]
    show_images(Y, num_rows, num_cols, scale=scale)
