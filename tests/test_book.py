"""The site: built without a warning, and readable without a kernel."""

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


@pytest.fixture(scope="module")
def site(tmp_path_factory) -> Path:
    """What `make book` builds; -W turns a dead link into an error."""
    out = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "sphinx", "-q", "-W", "--keep-going"]
    done = subprocess.run(
        [*command, "-c", "tools/site", ".", str(out)],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return out


@pytest.fixture(params=LESSONS)
def page(request, site) -> str:
    return (site / "notebooks" / f"{request.param}.html").read_text(encoding="utf-8")


def test_a_page_has_its_pictures(page, site) -> None:
    pictures = re.findall(r'<img [^>]*src="\.\./(_images/[^"]+)"', page)
    assert len(pictures) >= 2
    assert all((site / name).stat().st_size > 500 for name in pictures)


def test_no_widget_is_left_without_its_kernel(page) -> None:
    assert "interactive(children" not in page
    assert "jupyter.widget" not in page
    assert "Explorer(" not in page


def test_every_solution_is_folded(page) -> None:
    outside = re.sub(r"<details.*?</details>", "", page, flags=re.DOTALL)
    assert "solution_" in page and "solution_" not in outside
    assert "A model answer to" in page and "A model answer to" not in outside


def test_formulas_are_drawn_by_the_browser_itself(site) -> None:
    page = (site / "notebooks/06_batch.html").read_text(encoding="utf-8")
    assert page.count("<math") >= 5 and "\\cdot" not in page and "$$" not in page


def test_pages_lead_on_and_are_found(site, page) -> None:
    assert 'rel="next"' in page or 'title="next page"' in page
    assert (site / "searchindex.js").stat().st_size > 10_000
    assert "README.html" in (site / "index.html").read_text(encoding="utf-8")
    readme = (site / "README.html").read_text(encoding="utf-8")
    assert all(f'href="notebooks/{name}.html"' in readme for name in LESSONS)


@pytest.mark.browser
def test_pages_fit_a_phone_and_need_no_internet(site) -> None:
    asked, widths = [], {}
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium())
        page = browser.new_page(viewport={"width": 360, "height": 800})
        page.on("request", lambda request: asked.append(request.url))
        for path in (site / "README.html", *(site / "notebooks").glob("*.html")):
            page.goto(path.as_uri())
            widths[path.stem] = page.evaluate("document.documentElement.scrollWidth")
        browser.close()
    assert set(widths.values()) == {360}, widths
    assert not [url for url in asked if not url.startswith(("file:", "data:"))]
