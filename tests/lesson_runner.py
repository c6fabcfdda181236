"""Run a lesson, print the kernel's peak memory in megabytes, and run it again.

python lesson_runner.py LESSON FOLDER CIFAR10: in FOLDER as working directory; the
second time with the least of every parameter, and on the images in CIFAR10 unless
that would take minutes.
"""

import copy
import sys
from pathlib import Path

import nbformat
from nbclient import NotebookClient

MEMORY = """
import os, resource, sys
unit = 1024**2 if sys.platform == "darwin" else 1024  # it counts in bytes there
resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // unit
"""
OTHER = "os.environ['D2LEXT_CIFAR10'] = {!r}"
LEAST = {
    "05": "batch_size, worker_counts, num_images, rounds = 100, (0, 2), 1_000, 1",
    "07": "batch_size, num_steps, num_epochs, processes = 16, 1, 1, 1",
    "08": "num_epochs, policies, seed, num_train = 1, ['none', 'crop'], 7, 1_000",
    "09": "num_epochs, seed, num_train = 1, 7, 1_000",
    "10": "num_epochs, seed, num_train = 1, 7, 1_000",
}


def main(lesson: str, folder: str, cifar10: str) -> None:
    nb = nbformat.read(lesson, as_version=4)
    first = [cell for cell in nb.cells if cell.cell_type == "code"]
    again, number = copy.deepcopy(first), Path(lesson).name[:2]
    for cell in again:
        if "parameters" in cell.metadata.get("tags", ()):
            cell.source += "\n" + LEAST[number]
    memory, other = map(nbformat.v4.new_code_cell, (MEMORY, OTHER.format(cifar10)))
    between = [memory] if number in ("08", "09") else [memory, other]
    nb.cells = [*first, *between, *again]
    NotebookClient(nb, timeout=900, resources={"metadata": {"path": folder}}).execute()
    print("peak", memory.outputs[0]["data"]["text/plain"])


if __name__ == "__main__":
    main(*sys.argv[1:])
