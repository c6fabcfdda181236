"""Run a lesson, print the kernel's peak memory in megabytes, and run it again.

python lesson_runner.py LESSON FOLDER: in that folder as working directory.
"""

import sys

import nbformat
from nbclient import NotebookClient

MEMORY = """
import resource, sys
unit = 1024**2 if sys.platform == "darwin" else 1024  # it counts in bytes there
resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // unit
"""


def main(lesson: str, folder: str) -> None:
    nb = nbformat.read(lesson, as_version=4)
    client = NotebookClient(nb, timeout=300, resources={"metadata": {"path": folder}})
    with client.setup_kernel():
        code = [
            (i, cell) for i, cell in enumerate(nb.cells) if cell.cell_type == "code"
        ]
        for i, cell in code:
            client.execute_cell(cell, i)
        memory = nbformat.v4.new_code_cell(MEMORY)
        nb.cells.append(memory)
        client.execute_cell(memory, len(nb.cells) - 1)
        for i, cell in code:
            client.execute_cell(cell, i)
    print("peak", memory.outputs[0]["data"]["text/plain"])


if __name__ == "__main__":
    main(*sys.argv[1:])
