"""Where the course's files lie: beside the package in a checkout, else inside it."""

import sys
from pathlib import Path

from platformdirs import user_data_path

PACKAGE = Path(__file__).resolve().parent
# A clone of the repository, or a copy; None where a wheel was installed.
CHECKOUT = PACKAGE.parent if (PACKAGE.parent / "data/sample").is_dir() else None
# Holds `data/` (the cat, the sample, recorded results) and `notebooks/`.
COURSE = CHECKOUT or PACKAGE / "bundled"
# Where CIFAR-10 and runs are kept: never among the installed packages.
DATA = CHECKOUT / "data" if CHECKOUT else user_data_path("d2lext", appauthor=False)


def print_any_name() -> None:
    """Escape what the console's encoding lacks, a folder's name for example."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):  # a notebook's prints everything
            stream.reconfigure(errors="backslashreplace")
