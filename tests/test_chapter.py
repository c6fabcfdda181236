"""The chapter's own code, block by block, on top of this package.

The chapter is not ours to store: D2LEXT_CHAPTER names its Markdown file.
"""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from d2lext.images import data_path

CHAPTER = os.environ.get("D2LEXT_CHAPTER")
# 1,300 images of noise in the place of CIFAR-10.
PRELUDE = """
import torchvision


def CIFAR10(root, train=True, transform=None, download=False):
    return torchvision.datasets.FakeData(1300, (3, 32, 32), 10, transform)


torchvision.datasets.CIFAR10 = CIFAR10
"""


def blocks(text: str) -> list[str]:
    """The Python of a chapter up to its exercises."""
    text = re.split(r"^## (?:练习|Exercises)", text, flags=re.M)[0]
    return re.findall(
        r"^```(?:\{\.python[^\n]*\}|python)\n(.*?)^```", text, re.M | re.S
    )


@pytest.mark.slow
@pytest.mark.skipif(not CHAPTER, reason="D2LEXT_CHAPTER names no chapter")
def test_every_block_runs_after_changing_the_import(tmp_path: Path) -> None:
    code = "\n".join(blocks(Path(CHAPTER).read_text(encoding="utf-8")))
    code = re.sub(r"^%.*", "", code, flags=re.M)
    code, imports = re.subn(
        "from d2l import torch as d2l", "import d2lext as d2l", code
    )
    code, epochs = re.subn(r"trainer, 10, devices\)", "trainer, 1, devices)", code)
    assert imports == epochs == 1
    (tmp_path / "here").mkdir()
    (tmp_path / "img").mkdir()
    (tmp_path / "img" / "cat1.jpg").write_bytes(data_path("cat.jpg").read_bytes())
    program = tmp_path / "here" / "chapter.py"
    program.write_text(PRELUDE + code, encoding="utf-8")
    run = subprocess.run(
        [sys.executable, program.name],
        cwd=program.parent,
        env=os.environ | {"MPLBACKEND": "Agg"},
        capture_output=True,
        text=True,
    )
    assert run.returncode == 0, run.stderr
    assert re.search(r"loss \d.*, train acc 0\.\d+, test acc 0\.\d+", run.stdout)
    assert re.search(r"examples/sec on \[device\(type=", run.stdout)
