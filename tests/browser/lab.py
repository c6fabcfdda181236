"""JupyterLab for the browser tests: a server of its own, and lessons open in it."""

import contextlib
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

from playwright.sync_api import Browser, Locator, Page, expect

NOTEBOOKS = Path(__file__).resolve().parents[2] / "notebooks"
TIMEOUT_S = 120  # CI has two busy cores
RUN_ALL_S = 480  # a lesson that trains takes 75 quiet seconds

COURSE = Path(__file__).resolve().parents[2] / "d2lext/course/lab"  # as in `make lab`
# With windowing, cells out of sight are not in the page.
SETTINGS = {"@jupyterlab/notebook-extension:tracker": {"windowingMode": "none"}}

SERVER = [
    *("-m", "jupyterlab", "--no-browser", "--allow-root", "--ServerApp.ip=127.0.0.1"),
    "--LabApp.expose_app_in_browser=True",
    # These two would ask the internet.
    "--LabApp.extension_manager=readonly",
    "--LabApp.check_for_updates_class=jupyterlab.handlers.announcements.NeverCheckForUpdate",
]

expect.set_options(timeout=1000 * TIMEOUT_S)

LAB = "window.jupyterapp.shell.currentWidget"
KERNEL_READY = f"""async () => {{
    const {{ context, sessionContext }} = {LAB};
    await context.ready;
    await sessionContext.ready;
    await sessionContext.session.kernel.info;
}}"""
# A number in every prompt would not do to begin with: a stored lesson has them too.
FORGET_COUNTS = f"""() =>
    {LAB}.content.widgets.forEach(({{ model }}) => model.executionCount = null)"""
ERRORS = f"""() => {LAB}.content.widgets
    .flatMap(({{ model }}) => model.outputs?.toJSON() ?? [])
    .filter(output => output.output_type === 'error')
    .map(output => output.ename + ': ' + output.evalue)"""
ENDED = f"""indexes => ({ERRORS})().length
    || indexes.every(i => {LAB}.content.widgets[i].model.executionCount)"""
KERNEL_IDLE = f"() => {LAB}.sessionContext.session.kernel.status === 'idle'"
SHUT_DOWN = f"() => {LAB}.sessionContext.shutdown()"


def chromium() -> str:
    """The path of an installed Chromium or Chrome."""
    names = ("chromium", "chromium-browser", "google-chrome")
    found = next(filter(None, map(shutil.which, names)), None)
    if found is None:
        raise FileNotFoundError(f"none of {', '.join(names)} is installed")
    return found


@contextlib.contextmanager
def jupyterlab(root: Path, home: Path) -> Iterator[dict[str, str]]:
    """Serve `root`, with all else in `home`; yield the url, the token and so on."""
    env = {k: v for k, v in os.environ.items() if not k.startswith("JUPYTER")}
    env |= {f"JUPYTER_{n.upper()}_DIR": str(home / n) for n in ("data", "runtime")}
    env |= {"JUPYTER_CONFIG_DIR": str(home / "config"), "IPYTHONDIR": str(home / "ipy")}
    env |= {"JUPYTER_CONFIG_PATH": str(COURSE), "D2LEXT_CIFAR10": "sample"}
    settings = home / "config/labconfig/default_setting_overrides.json"
    settings.parent.mkdir(parents=True)
    settings.write_text(json.dumps(SETTINGS))
    command = [sys.executable, *SERVER, f"--ServerApp.root_dir={root}"]
    with (log := home / "log").open("w") as out:
        server = subprocess.Popen(command, stdout=out, stderr=out, env=env)
    try:
        # The server takes a free port, listens, writes down where, then the page.
        info = home / f"runtime/jpserver-{server.pid}.json"
        page = home / f"runtime/jpserver-{server.pid}-open.html"
        deadline = time.monotonic() + TIMEOUT_S
        while not page.exists():
            if server.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"JupyterLab did not start:\n{log.read_text()}")
            time.sleep(0.1)
        yield json.loads(info.read_text())
    finally:
        server.terminate()
        try:
            server.wait(TIMEOUT_S)
        except subprocess.TimeoutExpired:
            server.kill()


class Lesson:
    """A lesson open in JupyterLab, with the errors of its page in `problems`."""

    def __init__(self, page: Page, server: dict[str, str], path: Path):
        self.page, self.problems = page, []
        page.set_default_timeout(1000 * TIMEOUT_S)
        page.on("pageerror", lambda error: self.problems.append(str(error)))
        page.on("console", self._heard)
        self.cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
        place = path.relative_to(server["root_dir"]).as_posix()
        page.goto(f"{server['url']}lab/tree/{place}?reset&token={server['token']}")
        expect(page.locator(".jp-Notebook .jp-Cell")).to_have_count(len(self.cells))

    def _heard(self, message) -> None:
        if message.type == "error":
            self.problems.append(f"{message.text} ({message.location['url']})")

    def ids(self, words: str = "") -> list[str]:
        """The code cells that contain some words, by id."""
        return [
            cell["id"]
            for cell in self.cells
            if cell["cell_type"] == "code" and words in "".join(cell["source"])
        ]

    def trusted(self, cell_id: str) -> bool:
        widget = f"{LAB}.content.widgets[{self._index(cell_id)}]"
        return self.page.evaluate(f"{widget}.model.trusted")

    def _index(self, cell_id: str) -> int:
        return [cell["id"] for cell in self.cells].index(cell_id)

    def cell(self, cell_id: str) -> Locator:
        return self.page.locator(".jp-Notebook .jp-Cell").nth(self._index(cell_id))

    def wait_for_kernel(self) -> None:
        self.page.wait_for_function("() => window.jupyterapp")
        self.page.evaluate(KERNEL_READY)

    def run_all(self) -> None:
        """Run All Cells, as the menu does; wait for the last one, or for an error."""
        self.wait_for_kernel()
        self.page.evaluate(FORGET_COUNTS)
        self.page.get_by_role("menuitem", name="Run", exact=True).click()
        self.page.get_by_role("menuitem", name="Run All Cells", exact=True).click()
        self._wait_for_end(self.ids())

    def run(self, cell_id: str, source: str | None = None) -> None:
        """Run a cell by the keyboard, with what it says replaced by `source`."""
        self.page.evaluate(FORGET_COUNTS)
        self.cell(cell_id).locator(".cm-content").click()
        if source:
            self.page.keyboard.press("Control+A")
            self.page.keyboard.insert_text(source)
        self.page.keyboard.press("Control+Enter")
        self._wait_for_end([cell_id])

    def _wait_for_end(self, cell_ids: Iterable[str]) -> None:
        indexes = [self._index(cell_id) for cell_id in cell_ids]
        self.page.wait_for_function(ENDED, arg=indexes, timeout=1000 * RUN_ALL_S)
        assert not (errors := self.page.evaluate(ERRORS)), errors
        self.page.wait_for_function(KERNEL_IDLE)


@contextlib.contextmanager
def opened(browser: Browser, server: dict[str, str], path: Path) -> Iterator[Lesson]:
    """Open a copy of a lesson; in the end close it and shut its kernel down."""
    # A copy, and a new one each time, since JupyterLab saves what it has open.
    copy = shutil.copy(path, tempfile.mkdtemp(dir=server["root_dir"]))
    page = browser.new_page(viewport={"width": 1280, "height": 1000})
    try:
        lesson = Lesson(page, server, Path(copy))
        yield lesson
        lesson.wait_for_kernel()
        page.evaluate(SHUT_DOWN)
    finally:
        page.close()


class Explorer:
    """The controls and the contact sheet in the output of a cell."""

    def __init__(self, cell: Locator):
        self.cell = cell
        self.image = cell.locator("img.d2lext-sheet")
        self.code = cell.locator("pre.d2lext-code")

    def click(self, button: str) -> None:
        self.cell.get_by_role("button", name=button).click()

    def expect_setting(self, code: str, seed: int = 0) -> None:
        """Wait for the image of a setting: it comes together with these words."""
        expect(self.code).to_have_text(code)
        words = re.compile(rf"{re.escape(code)}, seed {seed}$")
        expect(self.image).to_have_attribute("alt", words)

    def src(self) -> str:
        """The image, as its page holds it."""
        return self.image.get_attribute("src")
