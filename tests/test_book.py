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

pytest.importorskip("myst_nb")  # environment.yml leaves it out

ROOT = Path(__file__).resolve().parent.parent
LESSONS = [path.stem for path in sorted((ROOT / "notebooks").glob("*.ipynb"))]
CHINESE = (ROOT / "README.zh.md").exists()


@pytest.fixture(scope="module")
def site(tmp_path_factory) -> Path:
    """What `make book` builds; -W turns a dead link into an error."""
    out = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "sphinx", "-q", "-W", "--keep-going"]
    editions = ([], out), (["-t", "zh"], out / "zh")
    for options, folder in editions[: 1 + CHINESE]:
        done = subprocess.run(
            [*command, "-c", "tools/site", *options, ".", str(folder)],
            cwd=ROOT,
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr
    return out


@pytest.fixture(params=LESSONS)
def page(request, site) -> str:
    return (site / "notebooks" / f"{request.param}.html").read_text(encoding="utf-8")


def test_a_page_can_do_without_a_kernel(page, site) -> None:
    """It has its images, each described, says what it is, and shows no dead widget."""
    images = re.findall(r'<img alt="([^"]*)" [^>]*src="\.\./(_images/[^"]+)"', page)
    assert len(images) >= 2
    for alt, name in images:
        assert (site / name).stat().st_size > 500
        assert len(alt) >= 12 and "_images" not in alt and "Output of" not in alt
    assert "A page: it shows stored results" in page
    for widget in ("interactive(children", "jupyter.widget", "Explorer("):
        assert widget not in page


def test_images_are_described(site) -> None:
    """In the words of the image itself, of the explorer, or of tools/site/alt.json."""
    page = (site / "notebooks/01_flip.html").read_text(encoding="utf-8")
    gain = (
        "Test accuracy with none, flip and all: A 63.4, 69.0, 90.6; B 66.0, 70.4, 61.1"
    )
    explorer = "Images by v2.RandomHorizontalFlip(p=0.5), seed 0"
    written = json.loads((ROOT / "tools/site/alt.json").read_text(encoding="utf-8"))
    assert f'<img alt="{gain}' in page and f'<img alt="{explorer}"' in page
    for name, alts in written.items():  # each on its page, none of a cell that is gone
        page = (site / f"notebooks/{name}.html").read_text(encoding="utf-8")
        assert all(f'alt="{html.escape(alt)}"' in page for alt in alts.values())


def test_cells_that_only_assert_are_hidden(page) -> None:
    cells = re.findall(r'class="cell_input.*?<pre>(.*?)</pre>', page, re.DOTALL)
    code = [html.unescape(re.sub("<[^>]+>", "", cell)) for cell in cells]
    assert any("import " in cell for cell in code)
    asserts = r"(((if|for) [^:]*:)?\s*assert [^\n]*(\n[ )]+[^\n]*)*\n)+"
    assert not [cell for cell in code if re.fullmatch(asserts, cell)]


def test_every_solution_is_folded(page) -> None:
    outside = re.sub(r"<details.*?</details>", "", page, flags=re.DOTALL)
    assert "solution_" in page and "solution_" not in outside
    assert "A model answer to" in page and "A model answer to" not in outside


def test_formulas_are_drawn_by_the_browser_itself(site) -> None:
    page = (site / "notebooks/06_batch.html").read_text(encoding="utf-8")
    assert "<math" in page and "\\cdot" not in page and "$$" not in page
    color = (site / "notebooks/03_color.html").read_text(encoding="utf-8")
    assert "<mi>′</mi>" in color and "&#x02032;" not in color  # not raised twice


def test_pages_lead_on_and_are_found(site, page) -> None:
    assert 'rel="next"' in page or 'title="next page"' in page
    assert (site / "searchindex.js").stat().st_size > 10_000
    assert "README.html" in (site / "index.html").read_text(encoding="utf-8")
    readme = (site / "README.html").read_text(encoding="utf-8")
    assert all(f'href="notebooks/{name}.html"' in readme for name in LESSONS)


@pytest.mark.skipif(not CHINESE, reason="there is no Chinese edition yet")
def test_every_page_leads_to_the_other_edition_and_back(site) -> None:
    pages = [p for p in site.rglob("*.html") if p.name != "index.html"]
    pages = [page for page in pages if "_static" not in page.parts]
    assert len(pages) >= 2 * (len(LESSONS) + 4)
    other = {}
    for page in pages:
        text = page.read_text(encoding="utf-8")
        chinese = site / "zh" in page.parents
        assert f'<html lang="{"zh-CN" if chinese else "en"}"' in text
        (way,) = re.findall(r'class="btn btn-sm language" href="([^"]+)">', text)
        other[page] = (page.parent / way).resolve()
    assert all(other[other[page]] == page for page in pages)


@pytest.mark.browser
def test_pages_fit_a_phone_in_the_dark_and_need_no_internet(site) -> None:
    asked, widths, sheets, diagrams, filters = [], {}, [], [], set()
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium())
        size = {"width": 360, "height": 800}
        page = browser.new_page(viewport=size, color_scheme="dark")
        page.on("request", lambda request: asked.append(request.url))
        for path in (*site.glob("[A-Z]*.html"), *site.glob("[dn]*/*.html")):
            page.goto(path.as_uri())
            widths[str(path)] = page.evaluate("document.documentElement.scrollWidth")
            images = "[...document.querySelectorAll('.cell_output img')]"
            filters |= {
                *page.evaluate(f"{images}.map(e => getComputedStyle(e).filter)")
            }
            # Tiles of 100 pixels: what is wider than the page can be scrolled.
            sheets += page.evaluate(
                f"{images}.filter(e => !e.hasAttribute('width')).map(e => "
                "[e.width, e.naturalWidth, +e.className.split('columns-')[1] || 1])"
            )
            # Diagrams have a width; they shrink, but stay legible.
            diagrams += page.evaluate(
                f"{images}.filter(e => e.hasAttribute('width')).map(e => e.width)"
            )
        browser.close()
    assert set(widths.values()) == {360}, widths
    assert len(diagrams) >= 3 and 300 < min(diagrams) <= max(diagrams) < 360
    for width, natural, columns in sheets:  # of filters, 2 x 2, there are twelve
        assert width >= min(400, natural) and (columns > 10 or width > 100 * columns)
    assert sum(columns > 4 for *_, columns in sheets) > 25 and filters == {"none"}
    assert not [url for url in asked if not url.startswith(("file:", "data:"))]
