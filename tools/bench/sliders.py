"""Time a slider's callback, from the new value to the new image.

Moves each slider of an explorer 40 times and prints, per explorer, the median and the
95th percentile in milliseconds, beside drawing the same tiles with matplotlib, as the
book's `apply` does, in the same run.
"""

import io
import statistics
import time
from collections.abc import Callable, Iterator
from functools import partial

import matplotlib

matplotlib.use("agg")
from matplotlib import pyplot as plt
from PIL import Image
from torchvision.transforms import v2

import d2lext as d2l

MOVES = 40


def times(action: Callable[[], None]) -> list[float]:
    """Milliseconds of each of MOVES calls, after two to warm up."""
    taken = []
    for _ in range(MOVES + 2):
        start = time.perf_counter()
        action()
        taken.append(1000 * (time.perf_counter() - start))
    return sorted(taken[2:])


def with_matplotlib(img: Image.Image, aug: Callable) -> None:
    d2l.apply(img, aug)
    plt.savefig(io.BytesIO(), format="png")
    plt.close()


def moves(explorer) -> Iterator[None]:
    """Move every slider in turn, back and forth."""
    while True:
        for slider in explorer.controls.values():
            value, step = slider.value, slider.step
            pair = isinstance(value, tuple)
            low = value[0] if pair else value
            low += step if low + step < (value[1] if pair else slider.max) else -step
            slider.value = (low, value[1]) if pair else low
            yield


def main() -> None:
    img = Image.open(d2l.data_path("cat.jpg"))
    color = dict.fromkeys(["brightness", "contrast", "saturation"], (0, 1, 0.5))
    crop = partial(v2.RandomResizedCrop, (200, 200))
    explorers = {
        "flip": (v2.RandomHorizontalFlip, {"p": (0, 1)}, 25),
        "crop": (
            crop,
            {"scale": (0.02, 1, (0.1, 1)), "ratio": (0.25, 4, (0.5, 2))},
            25,
        ),
        "all colours": (v2.ColorJitter, color | {"hue": (0, 0.5, 0.5)}, 60),
    }
    print(
        f"{'explorer':12} {'median':>8} {'p95':>8} {'goal':>8} {'matplotlib':>11} ratio"
    )
    for name, (constructor, controls, goal) in explorers.items():
        explorer = d2l.explore(constructor, img, **controls)
        ours = times(moves(explorer).__next__)
        theirs = times(partial(with_matplotlib, img, constructor(**explorer.values)))
        median, slow = statistics.median(ours), statistics.median(theirs)
        print(
            f"{name:12} {median:5.1f} ms {ours[int(0.95 * MOVES)]:5.1f} ms {goal:5} ms "
            f"{slow:8.1f} ms {slow / median:5.1f}"
        )


if __name__ == "__main__":
    main()
