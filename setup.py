"""Put the data and the lessons, which lie beside the package, into its wheel."""

import shutil
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py

BUNDLED = [
    "data/README.md",
    "data/cat.jpg",
    "data/sample/*",
    "data/results/*.json",
    "data/figures/*.png",
    "notebooks/*.ipynb",
    "notebooks/zh/*.ipynb",
]


class WithCourse(build_py):
    def run(self) -> None:
        super().run()
        if self.editable_mode:  # reads them where they are
            return
        for path in (path for pattern in BUNDLED for path in Path().glob(pattern)):
            target = Path(self.build_lib, "d2lext/bundled", path)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, target)


setup(cmdclass={"build_py": WithCourse})
