from collections.abc import Iterator

import pytest
from lab import NOTEBOOKS, Lesson, chromium, jupyterlab, opened
from playwright.sync_api import Browser, sync_playwright

# Module scope, not session: while Playwright is open, its event loop counts as
# running, and notebooks that nbval executes after these tests could trip over it.


@pytest.fixture(scope="module")
def server(tmp_path_factory) -> Iterator[dict[str, str]]:
    root, home = map(tmp_path_factory.mktemp, ("root", "home"))
    with jupyterlab(root, home) as info:
        yield info


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        launched = playwright.chromium.launch(executable_path=chromium())
        yield launched
        launched.close()


@pytest.fixture(scope="module")
def lesson_01(browser: Browser, server: dict[str, str]) -> Iterator[Lesson]:
    """Lesson 01 after Run All, shared: most of the time goes into importing torch."""
    with opened(browser, server, NOTEBOOKS / "01_flip.ipynb") as lesson:
        lesson.run_all()
        yield lesson
