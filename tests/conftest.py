import os
import shutil
from pathlib import Path

import pytest
from hypothesis import settings

# A busy machine may stall in any example.
settings.register_profile("patient", deadline=None)
settings.load_profile("patient")

# For what fixtures of a module start, before that of a test below.
os.environ |= {"D2LEXT_CIFAR10": "sample", "D2LEXT_RUNS": ""}

CHROMIUM = ("chromium", "chromium-browser", "google-chrome")


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Before any fixture: a browser test must not start a server in vain."""
    if item.get_closest_marker("slow") and os.environ.get("SLOW") != "1":
        pytest.skip("slow; SLOW=1 runs it")
    if item.get_closest_marker("browser") and not any(map(shutil.which, CHROMIUM)):
        words = f"no browser found ({', '.join(CHROMIUM)})"
        # A machine that tests every change must not pass by leaving tests out.
        (pytest.fail if os.environ.get("CI") else pytest.skip)(words)


@pytest.fixture(autouse=True)
def environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each test trains on the sample, and records its runs in a file of its own."""
    monkeypatch.setenv("D2LEXT_CIFAR10", "sample")
    monkeypatch.delenv("D2LEXT_ANSWERS", raising=False)
    monkeypatch.setenv("D2LEXT_RUNS", str(tmp_path / "runs.jsonl"))
