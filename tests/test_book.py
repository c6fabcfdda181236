"""The site: built without a warning, and readable without a kernel."""

import html
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from playwright.sync_api import sync_playwright

from tests.browser.lab import chromium
from tests.lessons import LESSONS, ROOT

pytest.importorskip("myst_nb")  # environment.yml leaves it out

NAMES = [path.stem for path in LESSONS]
# The images of a page; sheets of tiles have no width of their own, diagrams have one.
IMAGES = """[...document.querySelectorAll('.cell_output img')].map(e => ({
    sheet: !e.hasAttribute('width'), width: e.width, natural: e.naturalWidth,
    columns: +e.className.split('columns-')[1] || 1,
    filter: getComputedStyle(e).filter,
}))"""


@pytest.fixture(scope="module")
def site(tmp_path_factory) -> Path:
    """What `make book` builds; -W turns a dead link into an error."""
    out = tmp_path_factory.mktemp("site")
    sphinx = [sys.executable, "-m", "sphinx", "-q", "-W", "--keep-going"]
    for options, folder in ([], out), (["-t", "zh"], out / "zh"):
        command = [*sphinx, "-c", "tools/site", *options, ".", str(folder)]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
    return out


def read(page: Path) -> str:
    return page.read_text(encoding="utf-8")


@pytest.mark.parametrize("name", NAMES)
def test_a_page_can_do_without_a_kernel(site, name: str) -> None:
    """It describes its images, says what it is, shows no dead widget and no cell that
    only asserts, and folds its solutions."""
    page = read(site / f"notebooks/{name}.html")
    images = re.findall(r'<img alt="([^"]*)" [^>]*src="\.\./(_images/[^"]+)"', page)
    assert len(images) >= 2
    for alt, file in images:
        assert (site / file).stat().st_size > 500
        assert len(alt) >= 12 and "_images" not in alt and "Output of" not in alt
    assert "A page: it shows stored results" in page
    for widget in ("interactive(children", "jupyter.widget", "Explorer("):
        assert widget not in page
    cells = re.findall(r'class="cell_input.*?<pre>(.*?)</pre>', page, re.DOTALL)
    code = [html.unescape(re.sub("<[^>]+>", "", cell)) for cell in cells]
    asserts = r"(((if|for) [^:]*:)?\s*assert [^\n]*(\n[ )]+[^\n]*)*\n)+"
    assert any("import " in cell for cell in code)
    assert not [cell for cell in code if re.fullmatch(asserts, cell)]
    outside = re.sub(r"<details.*?</details>", "", page, flags=re.DOTALL)
    for solution in ("solution_", "A model answer to"):
        assert solution in page and solution not in outside


def test_images_are_described(site) -> None:
    """In the words of the image itself, of the explorer, or of tools/site/alt.json."""
    page = read(site / "notebooks/01_flip.html")
    assert '<img alt="Test accuracy with none, flip and all: A 63.4' in page
    assert '<img alt="Images by v2.RandomHorizontalFlip(p=0.5), seed 0"' in page
    written = json.loads(read(ROOT / "tools/site/alt.json"))
    for name, alts in written.items():  # each on its page, none of a cell that is gone
        page = read(site / f"notebooks/{name}.html")
        assert all(f'alt="{html.escape(alt)}"' in page for alt in alts.values())


def test_formulas_are_drawn_by_the_browser_itself(site) -> None:
    page = read(site / "notebooks/06_batch.html")
    assert "<math" in page and "\\cdot" not in page and "$$" not in page
    color = read(site / "notebooks/03_color.html")
    assert "<mi>′</mi>" in color and "&#x02032;" not in color  # not raised twice


def test_all_pages_are_found(site) -> None:
    assert "README.html" in read(site / "index.html")
    readme = read(site / "README.html")
    assert all(f'href="notebooks/{name}.html"' in readme for name in NAMES)


def test_every_page_leads_to_the_other_edition_and_back(site) -> None:
    pages = [p for p in site.rglob("*.html") if "_static" not in p.parts]
    pages = [page for page in pages if page.name != "index.html"]
    assert len(pages) >= 2 * (len(LESSONS) + 4)
    other = {}
    for page in pages:
        language = "zh-CN" if site / "zh" in page.parents else "en"
        assert f'<html lang="{language}"' in read(page)
        (way,) = re.findall(r'class="btn btn-sm language" href="([^"]+)">', read(page))
        other[page] = (page.parent / way).resolve()
    assert all(other[other[page]] == page for page in pages)


@pytest.mark.browser
def test_pages_fit_a_phone_in_the_dark_and_need_no_internet(site) -> None:
    asked, widths, images = [], set(), []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium())
        size = {"width": 360, "height": 800}
        page = browser.new_page(viewport=size, color_scheme="dark")
        page.on("request", lambda request: asked.append(request.url))
        for path in (*site.glob("[A-Z]*.html"), *site.glob("[dn]*/*.html")):
            page.goto(path.as_uri())
            widths.add(page.evaluate("document.documentElement.scrollWidth"))
            images += page.evaluate(IMAGES)
        browser.close()
    assert widths == {360} and {image["filter"] for image in images} == {"none"}
    # Diagrams shrink, but stay legible.
    diagrams = [image["width"] for image in images if not image["sheet"]]
    assert len(diagrams) >= 3 and 300 < min(diagrams) <= max(diagrams) < 360
    # Tiles of 100 pixels: what is wider than the page can be scrolled.
    sheets = [image for image in images if image["sheet"]]
    assert sum(sheet["columns"] > 4 for sheet in sheets) > 25
    for sheet in sheets:  # of filters, 2 x 2, there are twelve
        assert sheet["width"] >= min(400, sheet["natural"])
        assert sheet["columns"] > 10 or sheet["width"] > 100 * sheet["columns"]
    assert not [url for url in asked if not url.startswith(("file:", "data:"))]
