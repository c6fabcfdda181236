"""Time a slider in a real browser, from the key press to the painted image.

Presses an arrow key MOVES times on an explorer of lesson 3, and as often on the same
image made with `interact` and matplotlib, in the same notebook; prints the median and
the 95th percentile of the milliseconds until the new image is painted. Then drags the
slider by DRAG steps in SECONDS, and counts the images that come. Needs Chromium.
"""

import statistics
import sys
import tempfile
import time
from pathlib import Path

import nbformat

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tests" / "browser"))
from lab import chromium, jupyterlab, opened
from playwright.sync_api import sync_playwright

MOVES, DRAG, SECONDS = 40, 20, 0.6
# Without a name JupyterLab would ask for a kernel.
KERNEL = {"kernelspec": {"name": "python3", "display_name": "Python 3"}}
CELLS = {
    "ours": """
from torchvision.transforms import v2
import d2lext as d2l
d2l.explore(v2.ColorJitter, d2l.data_path("cat.jpg"), brightness=(0, 1, 0.5))""",
    "interact": """
%matplotlib inline
import matplotlib.pyplot as plt
from ipywidgets import interact
img = d2l.Image.open(d2l.data_path("cat.jpg"))
img.thumbnail((160, 160))
@interact(brightness=(0.0, 1.0, 0.05))
def draw(brightness=0.5):
    d2l.apply(img, v2.ColorJitter(brightness=brightness))
    plt.show()""",
}
# Remembers when a key went down, and how long after it each new image was painted.
WATCH = """cell => {
    const times = cell.painted = [];
    cell.addEventListener('keydown', () => { cell.pressed = performance.now(); }, true);
    const seen = new WeakSet(cell.querySelectorAll('img'));
    new MutationObserver(() => {
        for (const img of cell.querySelectorAll('img')) {
            if (seen.has(img)) continue;
            seen.add(img);
            const pressed = cell.pressed;
            img.decode().then(() => requestAnimationFrame(() =>
                requestAnimationFrame(() => times.push(performance.now() - pressed))));
        }
    }).observe(cell, { childList: true, subtree: true });
}"""


def measure(lesson, cell_id: str) -> tuple[list[float], int]:
    """Milliseconds of each move, sorted; the images that a fast drag gave."""
    page, cell = lesson.page, lesson.cell(cell_id)
    handle = cell.get_by_role("slider").first
    handle.focus()
    cell.evaluate(WATCH)
    for count in range(1, MOVES + 1):
        handle.press("ArrowRight" if count % 2 else "ArrowLeft")
        deadline = time.monotonic() + 10
        while cell.evaluate("cell => cell.painted.length") < count:
            if time.monotonic() > deadline:
                raise TimeoutError(f"{cell_id}: move {count} painted nothing")
            page.wait_for_timeout(5)
        page.wait_for_timeout(50)
    times = sorted(cell.evaluate("cell => cell.painted")[2:])
    handle.press("Home")
    page.wait_for_timeout(1500)
    before = cell.evaluate("cell => cell.painted.length")
    drag(page, handle)
    page.wait_for_timeout(4000)
    return times, cell.evaluate("cell => cell.painted.length") - before


def drag(page, handle) -> None:
    """Pull the handle to the end of its rail, step by step, as a hand does."""
    box = handle.bounding_box()
    rail = handle.locator("xpath=ancestor::*[contains(@class, 'noUi-base')]")
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    width = rail.bounding_box()["width"]
    page.mouse.move(x, y)
    page.mouse.down()
    for step in range(1, DRAG + 1):
        page.mouse.move(x + width * step / DRAG, y)
        page.wait_for_timeout(1000 * SECONDS / DRAG)
    page.mouse.up()


def main() -> None:
    try:
        chromium()
    except FileNotFoundError as error:
        print(f"{error}, so nothing was measured")
        return
    new = nbformat.v4
    cells = [new.new_code_cell(code.strip(), id=name) for name, code in CELLS.items()]
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder) / "root"
        root.mkdir()
        path = Path(folder) / "sliders.ipynb"
        nbformat.write(new.new_notebook(cells=cells, metadata=KERNEL), path)
        with (
            jupyterlab(root, Path(folder) / "home") as server,
            sync_playwright() as playwright,
        ):
            browser = playwright.chromium.launch(executable_path=chromium())
            with opened(browser, server, path) as lesson:
                lesson.run_all()
                print(f"{'':10} {'median':>9} {'p95':>9} {'of a drag':>12}")
                medians = {}
                for name in CELLS:
                    times, drawn = measure(lesson, name)
                    medians[name] = statistics.median(times)
                    slow = times[int(0.95 * len(times))]
                    print(
                        f"{name:10} {medians[name]:6.0f} ms {slow:6.0f} ms "
                        f"{drawn:5} of {DRAG}"
                    )
                print(f"ratio {medians['interact'] / medians['ours']:.1f}")
            browser.close()


if __name__ == "__main__":
    main()
