"""The chapter's own code, block by block, on top of this package.

The chapter is not ours to store: D2LEXT_CHAPTER names its Markdown file.
"""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from d2lext.images import data_path

CHAPTER = os.environ.get("D2LEXT_CHAPTER")
# 1,300 images of noise in the place of CIFAR-10.
PRELUDE = """
import torchvision
torchvision.datasets.CIFAR10 = lambda transform=None, **given: (
    torchvision.datasets.FakeData(1300, (3, 32, 32), 10, transform))
"""


@pytest.mark.slow
@pytest.mark.skipif(not CHAPTER, reason="D2LEXT_CHAPTER names no chapter")
def test_every_block_runs_after_changing_the_import(tmp_path: Path) -> None:
    text = Path(CHAPTER).read_text(encoding="utf-8")
    text = re.split(r"(?m)^## (?:练习|Exercises)", text)[0]
    blocks = re.findall(r"(?ms)^```(?:\{\.python[^\n]*\}|python)\n(.*?)^```", text)
    code = re.sub(r"(?m)^%.*", "", "\n".join(blocks))
    for old, new in (
        ("from d2l import torch as d2l", "import d2lext as d2l"),
        ("trainer, 10, devices)", "trainer, 1, devices)"),
    ):
        assert code.count(old) == 1
        code = code.replace(old, new)
    (here := tmp_path / "here").mkdir()
    (tmp_path / "img").mkdir()
    shutil.copy(data_path("cat.jpg"), tmp_path / "img" / "cat1.jpg")
    (here / "chapter.py").write_text(PRELUDE + code, encoding="utf-8")
    run = subprocess.run(
        [sys.executable, "chapter.py"],
        cwd=here,
        env=os.environ | {"MPLBACKEND": "Agg"},
        capture_output=True,
        text=True,
    )
    assert run.returncode == 0, run.stderr
    lines = r"loss \d.*, train acc 0\.\d+, test acc 0\.\d+\n.*examples/sec on \[dev"
    assert re.search(lines, run.stdout)
