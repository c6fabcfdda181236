"""Lessons in JupyterLab, driven in Chromium as a reader would drive them."""

import io
import re
from collections.abc import Iterator
from pathlib import Path

import nbformat
import numpy as np
import pytest
from lab import NOTEBOOKS, Explorer, Lesson, natural_width, opened
from PIL import Image, ImageDraw
from playwright.sync_api import expect

pytestmark = pytest.mark.browser

JPEG_NOISE = 4  # of 255, as a mean over pixels


@pytest.fixture
def flip(lesson_01: Lesson) -> Iterator[Explorer]:
    """The left-right explorer of lesson 01, as it starts."""
    lesson_01.run("explore-left-right")
    explorer = Explorer(lesson_01.cell("explore-left-right"))
    explorer.expect_setting(flip_code(0.5))
    yield explorer
    assert not lesson_01.problems


def flip_code(p: float) -> str:
    return f"v2.RandomHorizontalFlip(p={p})"


def difference(a: np.ndarray, b: np.ndarray) -> float:
    """Mean over the pixels, but for the edges, where JPEG smears the frame."""
    inner = slice(8, -8)
    return np.abs(a[inner, inner] - b[inner, inner]).mean()


def encoded(img: Image.Image, kind: str = "PNG") -> bytes:
    buffer = io.BytesIO()
    img.save(buffer, kind)
    return buffer.getvalue()


def check_run(lesson: Lesson) -> None:
    for cell_id in lesson.ids("d2l.explore("):
        explorer = Explorer(lesson.cell(cell_id))
        expect(explorer.image).to_be_visible()
        expect(explorer.image).to_have_attribute("alt", re.compile(r"\w"))
        assert natural_width(explorer.image) > 0, cell_id
    assert not lesson.problems


def test_an_exercise_answered_wrong_then_right(lesson_01: Lesson) -> None:
    check = lesson_01.said("check-1-1")
    expect(check).to_have_text("1.1: not answered yet.")
    for source, words in (
        ("return X.flip(2)", "1.1: not yet: your function reverses the rows"),
        ("return X[:, :, ::-1]", "1.1: not yet: your function raised"),
        ("return X[..., list(range(X.shape[-1]))[::-1]]", "1.1: right: "),
    ):
        lesson_01.write("answer-1-1", f"def my_flip(X):\n    {source}")
        lesson_01.run("answer-1-1", "check-1-1")
        expect(check).to_contain_text(words)
    assert not lesson_01.problems


def test_stored_images_show_before_a_run(browser, server) -> None:
    with opened(browser, server, NOTEBOOKS / "01_flip.ipynb") as lesson:
        assert not lesson.trusted("explore-left-right"), "not as after a clone"
        for cell_id, count in lesson.stored_images().items():
            images = lesson.cell(cell_id).locator(".jp-OutputArea img")
            expect(images).to_have_count(count)
            for image in images.all():
                expect(image).to_be_visible()
                assert natural_width(image) > 0, cell_id


def test_lesson_01_runs(lesson_01: Lesson) -> None:
    assert lesson_01.ids("d2l.explore(")
    check_run(lesson_01)
    expect(lesson_01.page.get_by_text("Jupyter news")).to_have_count(0)


@pytest.mark.slow
@pytest.mark.parametrize(
    "path", sorted(NOTEBOOKS.glob("*.ipynb"))[1:], ids=lambda path: path.stem
)
def test_other_lessons_run(browser, server, path: Path) -> None:
    with opened(browser, server, path) as lesson:
        lesson.run_all()
        check_run(lesson)
        for cell_id in lesson.ids("d2l.explore("):
            move_everything(Explorer(lesson.cell(cell_id)))
        assert not lesson.problems


@pytest.mark.slow
def test_a_chinese_lesson_runs(browser, server) -> None:
    """Its check says in Chinese what is stored, also of a new answer."""
    path = NOTEBOOKS / "zh/01_flip.ipynb"
    if not path.exists():
        pytest.skip("there is no Chinese edition yet")
    cells = {cell.id: cell for cell in nbformat.read(path, 4).cells}
    stored = cells["check-1-1"].outputs[0].data["text/plain"]
    with opened(browser, server, path) as lesson:
        lesson.run_all()
        check_run(lesson)
        expect(lesson.said("check-1-1")).to_have_text(stored)
        lesson.write("answer-1-1", "def my_flip(X):\n    return X.flip(2)")
        lesson.run("answer-1-1", "check-1-1")
        expect(lesson.said("check-1-1")).to_have_text(re.compile("[\u4e00-\u9fff]{5}"))


def move_everything(explorer: Explorer) -> None:
    """Each handle by the keyboard, single ones by the mouse too, and each menu."""
    start = explorer.code.inner_text()
    for handle in explorer.sliders():
        rail = handle.locator("xpath=ancestor::*[contains(@class, 'noUi-base')]")
        single = rail.get_by_role("slider").count() == 1
        # The handles of a range stop each other, so they move by a step only.
        there, back = ("End", "Home") if single else ("ArrowRight", "ArrowLeft")
        before, code = explorer.jpeg(), explorer.code.inner_text()
        value = handle.get_attribute("aria-valuetext")
        handle.press(there)
        if handle.get_attribute("aria-valuetext") == value:  # it was there already
            handle.press(back)
        expect(explorer.code).not_to_have_text(code)
        if not single:
            # A step may change no image, and between two handles a click moves none.
            continue
        explorer.expect_new_image(before)
        before, code = explorer.jpeg(), explorer.code.inner_text()
        width, height = (rail.bounding_box()[side] for side in ("width", "height"))
        rail.click(position={"x": 0.3 * width, "y": height / 2}, force=True)
        expect(explorer.code).not_to_have_text(code)
        explorer.expect_new_image(before)
    for menu in explorer.menus():
        before, code = explorer.jpeg(), explorer.code.inner_text()
        count = menu.locator("option").count()
        menu.select_option(index=count - 1)
        expect(explorer.code).not_to_have_text(code)
        explorer.expect_new_image(before)
    explorer.click("Reset")
    expect(explorer.code).to_have_text(start)


def test_keys_reach_and_move_the_slider_and_a_click_selects_the_code(
    lesson_01: Lesson, flip: Explorer
) -> None:
    before = flip.jpeg()
    lesson_01.cell("explore-left-right").locator(".jp-InputPrompt").click()
    for _ in range(10):
        flip.page.keyboard.press("Tab")
        if flip.slider("p").evaluate("e => e === document.activeElement"):
            break
    expect(flip.slider("p")).to_be_focused()
    for p in (0.55, 0.6, 0.65):
        flip.page.keyboard.press("ArrowRight")
        expect(flip.readout("p")).to_have_text(f"{p:.2f}")
    flip.expect_setting(flip_code(0.65))
    assert flip.jpeg() != before
    flip.code.click()
    selected = flip.page.evaluate("window.getSelection().toString()")
    assert selected == flip_code(0.65)


def test_reroll_draws_anew_and_reset_puts_everything_back(flip: Explorer) -> None:
    before = flip.jpeg()
    flip.click("Reroll")
    flip.expect_setting(flip_code(0.5), seed=1)
    expect(flip.seed).to_have_value("1")
    assert flip.jpeg() != before
    flip.slider("p").press("End")
    flip.expect_setting(flip_code(1.0), seed=1)
    flip.click("Reset")
    flip.expect_setting(flip_code(0.5), seed=0)
    expect(flip.readout("p")).to_have_text("0.50")
    expect(flip.seed).to_have_value("0")
    assert flip.jpeg() == before


def test_the_ends_of_the_slider_flip_every_tile_and_none(flip: Explorer) -> None:
    flip.drag_to_end("p")
    flip.expect_setting(flip_code(1.0))
    first, *others = flip.tiles()
    assert len(others) == 7 and difference(first, first[:, ::-1]) > 5 * JPEG_NOISE
    assert max(difference(tile, first[:, ::-1]) for tile in others) < JPEG_NOISE
    flip.slider("p").press("Home")
    flip.expect_setting(flip_code(0.0))
    expect(flip.readout("p")).to_have_text("0.00")
    first, *others = flip.tiles()
    assert max(difference(tile, first) for tile in others) < JPEG_NOISE


def test_own_image_becomes_the_original(flip: Explorer) -> None:
    own = Image.new("RGB", (300, 200), "navy")
    ImageDraw.Draw(own).ellipse((20, 40, 120, 160), fill="gold")
    before = flip.jpeg()
    flip.upload("own.png", encoded(own))
    flip.expect_new_image(before)
    own.thumbnail((160, 160))
    first = flip.tiles()[0]
    assert difference(first, np.asarray(own, dtype=float)) < JPEG_NOISE
    uploaded = flip.jpeg()
    flip.click("Reset")
    flip.expect_new_image(uploaded)
    assert flip.jpeg() == before


def test_an_upload_of_20_megabytes_arrives(flip: Explorer) -> None:
    """JupyterLab's own limit is 10; beyond the limit a connection breaks silently."""
    before, own = flip.jpeg(), encoded(Image.new("RGB", (2600, 2600), "navy"), "BMP")
    assert len(own) > 20_000_000
    flip.upload("own.bmp", own)
    flip.expect_new_image(before)
    words = "2600 x 2600 RGB image, augmented at 512 x 512 as RGB"
    expect(flip.cell).to_contain_text(words)


def test_a_file_that_is_no_image(flip: Explorer) -> None:
    flip.upload("notes.txt", b"no image at all")
    expect(flip.alert).to_contain_text("this file is not an image")
    expect(flip.image).to_be_visible()
    flip.slider("p").press("End")
    flip.expect_setting(flip_code(1.0))
    expect(flip.alert).to_have_count(0)


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
        image, said = cell.locator("img.d2lext-bench"), cell.locator("pre").last
        assert natural_width(image) > 0
        cell.get_by_role("checkbox", name="crop").focus()
        page.keyboard.press("Space")
        expect(image).to_have_attribute("alt", re.compile("flip.crop,"))
        page.keyboard.press("Tab")
        page.keyboard.press("ArrowLeft")
        expect(image).to_have_attribute("alt", re.compile("flip.crop3,"))
        cell.get_by_role("button", name="Train").focus()
        page.keyboard.press("Enter")
        expect(cell.get_by_role("button", name="Stop")).to_be_enabled()
        # The kernel, which answers a slider, is free while the bench trains.
        slider = cell.get_by_role("slider").nth(1)
        for key, padding in (("ArrowLeft", 2), ("ArrowRight", 3)):
            slider.press(key)
            expect(image).to_have_attribute("alt", re.compile(f"flip.crop{padding},"))
        expect(cell.get_by_role("button", name="Stop")).to_be_enabled()
        expect(said).to_contain_text("1: flip+crop3:")
        cell.get_by_role("button", name="Train").focus()
        page.keyboard.press("Enter")
        expect(said).to_contain_text("2 seeds")
        cell.get_by_role("button", name="Reveal").focus()
        page.keyboard.press("Enter")
        expect(said).to_contain_text("revealed for flip+crop3, one of 1:")
        expect(cell.get_by_role("button", name="Reveal")).to_be_disabled()
        assert not lesson.problems
