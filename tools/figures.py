"""Draw the diagrams of lessons 1 and 2 into data/figures: `python -m tools.figures`.

They hold only letters and numbers, which the lesson explains in its own language. A
lesson shows the file, so that a cell's output stores the diagram.
"""

import json
from collections.abc import Callable
from pathlib import Path

import matplotlib

matplotlib.use("agg")
import numpy as np
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from PIL import Image

from d2lext.images import data_path

ROOT = Path(__file__).resolve().parent.parent
WIDTH = 4.8  # inches: letters are 10 pixels high even on a phone
POLICIES = ("none", "flip", "all")
INK, ACCENT, FILL = "#22303c", "#d55e00", "#e8eef4"
FIGURES: dict[str, Callable[[], plt.Figure]] = {}


def figure(draw: Callable[[], plt.Figure]) -> Callable[[], plt.Figure]:
    FIGURES[draw.__name__] = draw
    return draw


def accuracies(file: str, policy: str) -> list[float]:
    """The test accuracies after the last epoch, in percent, one per seed."""
    runs = json.loads((data_path("results") / file).read_text(encoding="utf-8"))["runs"]
    return [100 * run["test_acc"][-1] for run in runs if run["policy"] == policy]


@figure
def gain() -> plt.Figure:
    """Test accuracy by policy: a dot for each seed, the mean as line and number."""
    size = (WIDTH, 2.9)
    made, axes = plt.subplots(1, 2, figsize=size, sharey=True, layout="constrained")
    files = ("sample_policies.json", "cifar10_5000.json")
    for ax, letter, file in zip(axes, "AB", files, strict=True):
        for x, policy in enumerate(POLICIES):
            values = accuracies(file, policy)
            mean = np.mean(values)
            color = ACCENT if policy == "all" else "#35688f"
            ax.plot([x] * len(values), values, "o", color=color, alpha=0.45)
            ax.plot([x - 0.3, x + 0.3], [mean, mean], color=color, lw=3)
            above = (x, max(values) + 1.5)
            ax.annotate(f"{mean:.1f}", above, ha="center", fontsize=13)
        ax.set_xticks(range(len(POLICIES)), POLICIES, fontsize=12)
        ax.set(xlim=(-0.6, 2.6), ylim=(55, 100))
        ax.grid(axis="y", alpha=0.3)
        ax.set_title(letter, fontsize=14, fontweight="bold")
        ax.spines[["top", "right"]].set_visible(False)
    axes[0].set_ylabel("%", fontsize=12)
    return made


def canvas(width: float, height: float) -> tuple[plt.Figure, Axes]:
    made, ax = plt.subplots(figsize=(WIDTH, WIDTH * height / width))
    ax.set(xlim=(0, width), ylim=(0, height), aspect="equal")
    ax.axis("off")
    made.subplots_adjust(0, 0, 1, 1)
    return made, ax


def arrow(ax: Axes, start: tuple, end: tuple, curve: float = 0, color=INK) -> None:
    style = {"arrowstyle": "-|>", "color": color, "lw": 1.6, "shrinkA": 0, "shrinkB": 0}
    style["connectionstyle"] = f"arc3,rad={curve}"
    ax.annotate("", end, start, arrowprops=style)


def letter(ax: Axes, x: float, y: float, words: str, color=INK, size=15) -> None:
    style = {"ha": "center", "va": "center", "fontweight": "bold"}
    ax.text(x, y, words, fontsize=size, color=color, **style)


def tile(ax: Axes, img: Image.Image, x: float, y: float, side: float = 1.5) -> None:
    half = side / 2
    ax.imshow(img, extent=(x - half, x + half, y - half, y + half), zorder=2)
    edges = {"fill": False, "ec": INK, "lw": 1, "zorder": 3}
    ax.add_patch(plt.Rectangle((x - half, y - half), side, side, **edges))


def box(ax: Axes, x: float, y: float, words: str, width=2.0, height=1.3) -> None:
    corner = (x - width / 2, y - height / 2)
    ax.add_patch(plt.Rectangle(corner, width, height, fc=FILL, ec=INK, lw=1.4))
    letter(ax, x, y, words)


@figure
def where() -> plt.Figure:
    """File, draw, batch, net; above in training, below in a test."""
    cat = Image.open(data_path("cat.jpg")).crop((50, 0, 450, 400)).resize((160, 160))
    dark = cat.point(lambda value: value * 0.55)
    near = cat.crop((30, 20, 130, 120)).resize((160, 160))
    mirrored = near.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    made, ax = canvas(12, 8.9)
    for x, name in zip((2.2, 5.2, 8.2, 11), "ABCD", strict=True):
        letter(ax, x, 8.4, name)
    for y, number, draws in ((5.7, "1", (mirrored, dark, near)), (1.3, "2", (cat,))):
        letter(ax, 0.6, y, number, ACCENT)
        tile(ax, cat, 2.2, y)
        for k, img in enumerate(draws):
            at = y + 1.65 * (len(draws) // 2 - k)
            arrow(ax, (3.05, y), (4.35, at), color=ACCENT if len(draws) > 1 else INK)
            tile(ax, img, 5.2, at)
            arrow(ax, (6.05, at), (7.2, y))
        for k in range(3):
            edges = {"fc": FILL, "ec": INK, "lw": 1.2, "zorder": 4 - k}
            corner = (7.4 + 0.25 * k, y - 0.85 + 0.25 * k)
            ax.add_patch(plt.Rectangle(corner, 1.4, 1.4, **edges))
        arrow(ax, (9.4, y), (10.3, y))
        ax.add_patch(plt.Circle((11, y), 0.65, fc=FILL, ec=INK, lw=1.4))
    ax.plot([0.2, 11.8], [2.8, 2.8], color="#b8c4ce", lw=1, ls=":")
    return made


@figure
def resized_crop() -> plt.Figure:
    """RandomResizedCrop's loop: draw, fits?, ten tries, else the middle."""
    made, ax = canvas(12, 8.2)
    box(ax, 2.2, 6.4, "A")
    corners = [(4.6, 6.4), (6.2, 7.6), (7.8, 6.4), (6.2, 5.2)]
    ax.add_patch(plt.Polygon(corners, fc=FILL, ec=INK, lw=1.4))
    letter(ax, 6.2, 6.4, "B")
    box(ax, 10.4, 6.4, "C")
    box(ax, 6.2, 1.6, "E")
    box(ax, 10.4, 1.6, "D")
    arrow(ax, (3.2, 6.4), (4.6, 6.4))
    arrow(ax, (7.8, 6.4), (9.4, 6.4))
    letter(ax, 8.5, 6.85, "✓", "#2a7f3e")
    arrow(ax, (5.7, 5.58), (2.4, 5.75), -0.45, ACCENT)
    letter(ax, 3.6, 4.2, "✗ 1–9", ACCENT, 13)
    arrow(ax, (6.2, 5.2), (6.2, 2.25), color=ACCENT)
    letter(ax, 7.1, 3.8, "✗ 10", ACCENT, 13)
    arrow(ax, (10.4, 5.75), (10.4, 2.25))
    arrow(ax, (7.2, 1.6), (9.4, 1.6))
    return made


def main(folder: Path = ROOT / "data/figures") -> None:
    folder.mkdir(exist_ok=True)
    for name, draw in FIGURES.items():
        # No date and versions, so that equal drawings make equal files.
        draw().savefig(folder / f"{name}.png", dpi=150, metadata={"Software": None})
        plt.close("all")


if __name__ == "__main__":
    main()
