"""Execute lessons from top to bottom, and store them in the repository's form.

`python -m tools.execute` executes all of them, `python -m tools.execute notebooks/01*`
some. It stores outputs and counts, but no widget state (GitHub refuses to show it), no
live widget views (a page without a kernel cannot show them), and no times. Figures are
stored in fewer colours. If a cell fails, the lesson stays unchanged.
"""

import argparse
import base64
import io
import os
import sys
import time
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError
from PIL import Image, ImageChops

ROOT = Path(__file__).resolve().parent.parent
WIDGET_VIEW = "application/vnd.jupyter.widget-view+json"
LEVELS = 20  # of a channel
PATCH_LIMIT = 10  # of 255, half of what tests/image_outputs.py lets a patch change


def execute(path: Path) -> nbformat.NotebookNode:
    """Return the lesson, executed in its folder on this Python."""
    nb = nbformat.read(path, as_version=4)
    client = NotebookClient(
        nb,
        timeout=600,
        kernel_name="python3",
        record_timing=False,
        coalesce_streams=True,
        resources={"metadata": {"path": str(path.parent)}},
    )
    # nbclient's stand-in for the Output widget can lose a reply and stall.
    client.comm_open_handlers.clear()
    # Lessons are stored with the sample, whatever data and runs this machine has.
    client.execute(env=os.environ | {"D2LEXT_CIFAR10": "sample", "D2LEXT_RUNS": ""})
    nb.metadata.pop("widgets", None)
    # The version of Python would differ from machine to machine.
    nb.metadata.language_info = {"name": "python"}
    for cell in nb.cells:
        for output in cell.get("outputs", []):
            data = output.get("data", {})
            data.pop(WIDGET_VIEW, None)
            if "image/png" in data:
                data["image/png"] = lighter(data["image/png"])
    return nb


def lighter(png: str) -> str:
    """A figure in base64, a third as large: in 256 colours, or in LEVELS a channel.

    A palette is smaller, but it drops rare colours. So it is used where each patch of
    8 x 8 pixels keeps its mean.
    """
    with Image.open(io.BytesIO(base64.b64decode(png))) as opened:
        if opened.mode == "P":  # small already
            return png
        img = opened.convert("RGB")
    small = img.quantize(method=Image.Quantize.FASTOCTREE)
    small.putpalette([x + (x == 254) for x in small.getpalette()])  # white is white
    patches = ImageChops.difference(img.reduce(8), small.convert("RGB").reduce(8))
    if max(high for _, high in patches.getextrema()) > PATCH_LIMIT:
        steps = (round(x * LEVELS / 255) * 255 / LEVELS for x in range(256))
        small = img.point([*map(round, steps)] * 3)
    small.save(buffer := io.BytesIO(), "PNG", optimize=True)
    return base64.b64encode(buffer.getvalue()).decode()


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m tools.execute", description=__doc__
    )
    parser.add_argument("lessons", nargs="*", type=Path, help="default: all of them")
    args = parser.parse_args(argv)
    lessons = args.lessons or sorted((ROOT / "notebooks").glob("*.ipynb"))
    failed = 0
    for path in lessons:
        start = time.perf_counter()
        try:
            nb = execute(path)
        except CellExecutionError as error:
            failed += 1
            print(f"{path.name}: a cell failed, the file is as it was\n{error}")
            continue
        part = path.with_suffix(".part")
        nbformat.write(nb, part)
        os.replace(part, path)  # a stop halfway leaves the old file intact
        print(f"{path.name}: {time.perf_counter() - start:.0f} s")
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main())
