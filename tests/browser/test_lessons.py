"""Lessons in JupyterLab, driven in Chromium as a reader would drive them."""

import io
import re
from collections.abc import Iterator
from pathlib import Path

import nbformat
import pytest
from lab import NOTEBOOKS, Explorer, Lesson, chromium, jupyterlab, opened
from PIL import Image
from playwright.sync_api import Browser, Locator, expect, sync_playwright

pytestmark = pytest.mark.browser

OUTPUT = ".jp-OutputArea-output"
FLIP = "v2.RandomHorizontalFlip(p={})"


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


def natural_width(img: Locator) -> int:
    """The width of an image in its own pixels; an error if it cannot be decoded."""
    return img.evaluate("img => img.decode().then(() => img.naturalWidth)")


def check_run(lesson: Lesson) -> None:
    for cell_id in lesson.ids("d2l.explore("):
        explorer = Explorer(lesson.cell(cell_id))
        expect(explorer.image).to_be_visible()
        expect(explorer.image).to_have_attribute("alt", re.compile(r"\w"))
        assert natural_width(explorer.image) > 0, cell_id
    assert not lesson.problems


def test_lesson_01_and_an_exercise_answered_wrong_then_right(lesson_01: Lesson) -> None:
    check_run(lesson_01)
    expect(lesson_01.page.get_by_text("Jupyter news")).to_have_count(0)
    check = lesson_01.cell("check-1-1").locator(OUTPUT)
    expect(check).to_have_text("1.1: not answered yet.")
    for source, words in (
        ("return X.flip(2)", "1.1: not yet: your function reverses the images"),
        ("return X[:, :, ::-1]", "1.1: not yet: your function raised"),
        ("return X[..., list(range(X.shape[-1]))[::-1]]", "1.1: right: "),
    ):
        lesson_01.run("answer-1-1", f"def my_flip(X):\n    {source}")
        lesson_01.run("check-1-1")
        expect(check).to_contain_text(words)
    assert not lesson_01.problems


def test_stored_images_show_before_a_run(browser, server) -> None:
    with opened(browser, server, NOTEBOOKS / "01_flip.ipynb") as lesson:
        assert not lesson.trusted("explore-left-right"), "not as after a clone"
        for cell in lesson.cells:
            shown = [output.get("data", {}) for output in cell.get("outputs", ())]
            stored = [data for data in shown if {"image/png", "image/jpeg"} & {*data}]
            images = lesson.cell(cell["id"]).locator(".jp-OutputArea img")
            expect(images).to_have_count(len(stored))
            for image in images.all():
                expect(image).to_be_visible()
                assert natural_width(image) > 0, cell["id"]


OTHERS = [*sorted(NOTEBOOKS.glob("*.ipynb"))[1:], NOTEBOOKS / "zh/01_flip.ipynb"]


@pytest.mark.slow
@pytest.mark.parametrize("path", OTHERS, ids=lambda path: path.stem)
def test_other_lessons_run(browser, server, path: Path) -> None:
    """A check says what is stored, in Chinese in a Chinese lesson."""
    with opened(browser, server, path) as lesson:
        lesson.run_all()
        check_run(lesson)
        for cell in (cell for cell in lesson.cells if cell["id"][:6] == "check-"):
            stored = "".join(cell["outputs"][0]["data"]["text/plain"])
            expect(lesson.cell(cell["id"]).locator(OUTPUT)).to_have_text(stored)
        for cell_id in lesson.ids("d2l.explore("):
            move_everything(Explorer(lesson.cell(cell_id)))
        assert not lesson.problems


def move_everything(explorer: Explorer) -> None:
    """Each handle to an end, by the keyboard, and each menu."""
    start, words = explorer.code.inner_text(), explorer.image.get_attribute("alt")
    for control in explorer.cell.locator(
        "[role=slider], .widget-dropdown select"
    ).all():
        if control.get_attribute("role") == "slider":
            value = control.get_attribute("aria-valuetext")
            control.press("End")
            if control.get_attribute("aria-valuetext") == value:  # it was there already
                control.press("Home")
        else:
            control.select_option(index=control.locator("option").count() - 1)
        expect(explorer.code).not_to_have_text(start)
        # The words come with the image, which chance may leave as it was.
        expect(explorer.image).not_to_have_attribute("alt", words)
        expect(explorer.cell.get_by_role("alert")).to_have_count(0)
        explorer.click("Reset")
        expect(explorer.code).to_have_text(start)


def test_an_explorer_by_keys_and_mouse(lesson_01: Lesson) -> None:
    lesson_01.run("explore-left-right")
    flip, page = Explorer(lesson_01.cell("explore-left-right")), lesson_01.page
    slider, seed = (flip.cell.get_by_role(r) for r in ("slider", "spinbutton"))
    readout, before = flip.cell.locator(".widget-readout"), flip.src()
    slider.focus()
    for p in (0.55, 0.6, 0.65):
        page.keyboard.press("ArrowRight")
        expect(readout).to_have_text(f"{p:.2f}")
    flip.expect_setting(FLIP.format(0.65))
    assert flip.src() != before
    flip.code.click()
    selected = page.evaluate("window.getSelection().toString()")
    assert selected == FLIP.format(0.65)
    flip.click("Reroll")
    flip.expect_setting(FLIP.format(0.65), seed=1)
    expect(seed).to_have_value("1")
    rail = flip.cell.locator(".noUi-base")
    box = rail.bounding_box()
    end = {"x": box["width"] - 1, "y": box["height"] / 2}
    slider.drag_to(rail, target_position=end, force=True)
    flip.expect_setting(FLIP.format(1.0), seed=1)
    flip.click("Reset")
    flip.expect_setting(FLIP.format(0.5))
    expect(readout).to_have_text("0.50")
    expect(seed).to_have_value("0")
    assert flip.src() == before
    assert not lesson_01.problems


def test_uploads(lesson_01: Lesson) -> None:
    """JupyterLab's own limit is 10 MB; beyond it a connection breaks silently."""
    lesson_01.run("explore-left-right")
    flip = Explorer(lesson_01.cell("explore-left-right"))
    alert, before = flip.cell.get_by_role("alert"), flip.src()

    def upload(name: str, content: bytes) -> None:
        with lesson_01.page.expect_file_chooser() as chooser:
            flip.click("Your image")
        chooser.value.set_files({"name": name, "mimeType": "", "buffer": content})

    upload("notes.txt", b"no image at all")
    expect(alert).to_contain_text("this file is not an image")
    expect(flip.image).to_be_visible()
    Image.new("RGB", (2600, 2600), "navy").save(own := io.BytesIO(), "BMP")
    assert len(own.getvalue()) > 20_000_000
    upload("own.bmp", own.getvalue())
    words = "2600 x 2600 RGB image, augmented at 512 x 512 as RGB"
    expect(flip.cell).to_contain_text(words)
    expect(flip.image).not_to_have_attribute("src", before)
    expect(alert).to_have_count(0)
    flip.click("Reset")
    expect(flip.image).to_have_attribute("src", before)
    assert not lesson_01.problems


CELL = """import os
os.environ["D2LEXT_RUNS"] = "runs.jsonl"
import d2lext as d2l
d2l.bench(2)"""


def test_the_bench_by_keyboard_alone(browser, server, tmp_path) -> None:
    cells = [nbformat.v4.new_code_cell(CELL, id="bench")]
    kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3"}}
    notebook = nbformat.v4.new_notebook(cells=cells, metadata=kernel)
    nbformat.write(notebook, tmp_path / "bench.ipynb")
    with opened(browser, server, tmp_path / "bench.ipynb") as lesson:
        lesson.run_all()
        cell, page = lesson.cell("bench"), lesson.page
        image, said = cell.locator("img.d2lext-sheet"), cell.locator(".d2lext-note")
        assert natural_width(image) > 0
        switches = cell.get_by_role("checkbox").all()
        assert len({switch.bounding_box()["x"] for switch in switches}) == 1  # rows
        cell.get_by_role("checkbox", name="crop").focus()
        page.keyboard.press("Space")
        expect(image).to_have_attribute("alt", re.compile("flip.crop "))
        page.keyboard.press("Tab")
        page.keyboard.press("ArrowLeft")
        expect(image).to_have_attribute("alt", re.compile("flip.crop3 "))
        cell.get_by_role("button", name="Train").focus()
        page.keyboard.press("Enter")
        expect(said).to_contain_text("--policy flip+crop3")
        assert not lesson.problems
