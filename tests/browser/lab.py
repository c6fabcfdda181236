"""JupyterLab for the browser tests: a server of its own, and lessons open in it."""

import base64
import contextlib
import io
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

import numpy as np
from PIL import Image
from playwright.sync_api import Browser, Locator, Page, expect

NOTEBOOKS = Path(__file__).resolve().parents[2] / "notebooks"
TIMEOUT_S = 120  # CI has two busy cores
RUN_ALL_S = 480  # a lesson that trains takes 75 quiet seconds
GAP = 6  # between the tiles of a contact sheet

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
FORGET_COUNTS = f"""() => {{
    for (const {{ model }} of {LAB}.content.widgets)
        if (model.type === 'code') model.executionCount = null;
}}"""
ERRORS = f"""() => {LAB}.content.widgets
    .filter(({{ model }}) => model.type === 'code')
    .flatMap(({{ model }}) => model.outputs.toJSON())
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
    env |= {"JUPYTER_CONFIG_PATH": str(COURSE)}
    settings = home / "config/labconfig/default_setting_overrides.json"
    settings.parent.mkdir(parents=True)
    settings.write_text(json.dumps(SETTINGS))
    log = home / "log"
    with log.open("w") as out:
        server = subprocess.Popen(
            [sys.executable, *SERVER, f"--ServerApp.root_dir={root}"],
            stdout=out,
            stderr=subprocess.STDOUT,
            env=env | {"D2LEXT_CIFAR10": "sample"},
        )
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
            server.wait(30)
        except subprocess.TimeoutExpired:
            server.kill()
            server.wait()


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

    def stored_images(self) -> dict[str, int]:
        """How many images the file has in the output of each code cell, by id."""
        return {
            cell["id"]: sum(
                any(mime.startswith("image/") for mime in output.get("data", {}))
                for output in cell["outputs"]
            )
            for cell in self.cells
            if cell["cell_type"] == "code"
        }

    def trusted(self, cell_id: str) -> bool:
        model = f"{LAB}.content.widgets[{self._index(cell_id)}].model"
        return self.page.evaluate(f"{model}.trusted")

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

    def run(self, *cell_ids: str) -> None:
        """Run some cells, each by a click and Ctrl+Enter."""
        self.wait_for_kernel()
        self.page.evaluate(FORGET_COUNTS)
        for cell_id in cell_ids:
            self.cell(cell_id).locator(".jp-InputPrompt").click()
            self.page.keyboard.press("Control+Enter")
        self._wait_for_end(cell_ids)

    def write(self, cell_id: str, source: str) -> None:
        """Replace what a code cell says, as one would with the keyboard."""
        self.cell(cell_id).locator(".cm-content").click()
        self.page.keyboard.press("Control+A")
        self.page.keyboard.insert_text(source)

    def said(self, cell_id: str) -> Locator:
        return self.cell(cell_id).locator(".jp-OutputArea-output")

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
        self.cell, self.page = cell, cell.page
        self.image = cell.locator("img.d2lext-sheet")
        self.code = cell.locator("pre.d2lext-code")
        self.alert = cell.get_by_role("alert")
        self.seed = cell.get_by_role("spinbutton")

    def row(self, name: str) -> Locator:
        label = self.page.get_by_text(name, exact=True)
        return self.cell.locator(".widget-slider").filter(has=label)

    def slider(self, name: str) -> Locator:
        return self.row(name).get_by_role("slider")

    def readout(self, name: str) -> Locator:
        return self.row(name).locator(".widget-readout")

    def sliders(self) -> list[Locator]:
        """Every handle of every slider."""
        return self.cell.get_by_role("slider").all()

    def menus(self) -> list[Locator]:
        return self.cell.locator(".widget-dropdown select").all()

    def click(self, button: str) -> None:
        self.cell.get_by_role("button", name=button).click()

    def drag_to_end(self, name: str) -> None:
        handle = self.slider(name)
        handle.scroll_into_view_if_needed()
        box, rail = handle.bounding_box(), self.row(name).locator(".noUi-base")
        y, end = box["y"] + box["height"] / 2, rail.bounding_box()
        self.page.mouse.move(box["x"] + box["width"] / 2, y)
        self.page.mouse.down()
        self.page.mouse.move(end["x"] + end["width"], y, steps=8)
        self.page.mouse.up()

    def upload(self, name: str, content: bytes) -> None:
        with self.page.expect_file_chooser() as chooser:
            self.click("Your image")
        chooser.value.set_files({"name": name, "mimeType": "", "buffer": content})

    def expect_setting(self, code: str, seed: int = 0) -> None:
        """Wait for the image of a setting: it comes together with these words."""
        expect(self.code).to_have_text(code)
        words = re.compile(rf"{re.escape(code)}, seed {seed}$")
        expect(self.image).to_have_attribute("alt", words)

    def expect_new_image(self, before: bytes) -> None:
        old = re.compile(re.escape(base64.b64encode(before).decode()))
        expect(self.image).not_to_have_attribute("src", old)

    def jpeg(self) -> bytes:
        return base64.b64decode(self.image.get_attribute("src").partition(",")[2])

    def tiles(self, num_rows: int = 2, num_cols: int = 4) -> list[np.ndarray]:
        """The tiles of the sheet, each (H, W, 3)."""
        sheet = np.asarray(Image.open(io.BytesIO(self.jpeg())), dtype=float)
        h = (sheet.shape[0] - GAP) // num_rows
        w = (sheet.shape[1] - GAP) // num_cols
        corners = [(y * h, x * w) for y in range(num_rows) for x in range(num_cols)]
        return [sheet[y + GAP : y + h, x + GAP : x + w] for y, x in corners]


def natural_width(img: Locator) -> int:
    """The width of an image in its own pixels; an error if it cannot be decoded."""
    return img.evaluate("img => img.decode().then(() => img.naturalWidth)")
