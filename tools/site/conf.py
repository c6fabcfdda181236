"""How `make book` builds the site: the README and the lessons, as they are stored."""

import json
import os

from docutils import nodes
from latex2mathml.converter import convert

project = "Image augmentation, hands on"
author = "the authors of the course"
copyright = "code MIT, text and figures CC BY 4.0"
root_doc = "README"
extensions = ["myst_nb"]
include_patterns = ["*.md", "data/README.md", "notebooks/*.ipynb"]

nb_execution_mode = "off"
nb_merge_streams = True
nb_code_prompt_show = "A solution"
nb_code_prompt_hide = "Fold the solution"
# The picture stored beside a slider, not the text beside the picture.
nb_mime_priority_overrides = [
    ("html", "image/jpeg", 1),
    ("html", "image/png", 2),
]
myst_enable_extensions = ["dollarmath"]
myst_heading_anchors = 3
html_math_renderer = "mathml"

html_theme = "sphinx_book_theme"
html_title = project
html_theme_options = {
    "navbar_persistent": [],
    "show_navbar_depth": 1,
    "show_toc_level": 2,
}
html_context = {"default_mode": "auto"}  # light or dark, as the reader's system is
html_copy_source = False
html_static_path = ["static"]
html_css_files = ["book.css"]


def toctree(app) -> str:
    lessons = sorted(p for p in app.env.found_docs if p.startswith("notebooks/"))
    names = "\n".join([*lessons, "data/README", "CONTRIBUTING", "CHANGELOG"])
    return f"\n```{{toctree}}\n:hidden:\n\n{names}\n```\n"


def prepare(app, docname: str, source: list[str]) -> None:
    """The README gets the list of pages; solutions are folded."""
    if docname == root_doc:
        source[0] += toctree(app)
    if docname.startswith("notebooks/"):
        nb = json.loads(source[0])
        for cell in nb["cells"]:
            tags = cell["metadata"].get("tags", [])
            if cell["cell_type"] == "code" and "solution" in tags:
                tags.append("hide-cell")
        source[0] = json.dumps(nb)


def index(app, error) -> None:
    """A site is opened at index.html."""
    if error is None and app.builder.name == "html":
        target = os.path.join(app.outdir, "index.html")
        with open(target, "w", encoding="utf-8") as file:
            file.write(
                "<!doctype html><title>README</title>"
                '<meta http-equiv="refresh" content="0; url=README.html">'
                '<a href="README.html">README</a>\n'
            )


def formula(translator, node) -> None:
    """As MathML, which browsers draw themselves: MathJax would need the internet."""
    display = "block" if isinstance(node, nodes.math_block) else "inline"
    translator.body.append(convert(node.astext(), display=display))
    raise nodes.SkipNode


def setup(app) -> None:
    app.add_html_math_renderer("mathml", (formula, None), (formula, None))
    app.connect("source-read", prepare)
    app.connect("build-finished", index)
