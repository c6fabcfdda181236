"""Find the course's files: beside the package in a checkout, else inside it."""

import sys
from pathlib import Path

from platformdirs import user_data_path

PACKAGE = Path(__file__).resolve().parent
# A clone or copy of the repository; None if a wheel is installed.
CHECKOUT = PACKAGE.parent if (PACKAGE.parent / "data/sample").is_dir() else None
# Holds `data/` (the cat, the sample, recorded results) and `notebooks/`.
COURSE = CHECKOUT or PACKAGE / "bundled"
# The place for CIFAR-10 and recorded runs, never among the installed packages.
DATA = CHECKOUT / "data" if CHECKOUT else user_data_path("d2lext", appauthor=False)


def print_any_name() -> None:
    """Escape characters that the console's encoding lacks, as in a folder's name."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):  # a notebook's stream prints everything
            stream.reconfigure(errors="backslashreplace")
