"""Settings of the site that `make book` builds from the README and stored lessons.

With `-t zh` it builds the Chinese site, for the folder zh/ of the other.
"""

import ast
import json
import os
import posixpath
import re
import sys
from pathlib import Path

from docutils import nodes
from latex2mathml.converter import convert

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
from tools.address import ROOT, address, launch
from tools.translate import catalog

CHINESE = "zh" in tags  # noqa: F821, Sphinx's own name
SITE = catalog(ROOT / "translations/zh/site.po") if CHINESE else {}
WORDS = {message.english: message.chinese for message in SITE.values() if message.done}
FIRST_LINE = re.compile(r"\A\[[^]]*\]\(README[.a-z]*\)\n")  # leads to the other edition


def say(text: str) -> str:
    return WORDS.get(text, text)


ADDRESS = address()
COLUMNS = re.compile(r"show_images\(.*?, \d+, (\d+)\b|num_cols=(\d+)", re.DOTALL)
ALT = json.loads(Path(__file__).with_name("alt.json").read_text(encoding="utf-8"))
language = "zh_CN" if CHINESE else "en"
project = say("Image augmentation, hands on")
author = say("the authors of the course")
copyright = say("code MIT, text and figures CC BY 4.0")
root_doc, folder = ("README.zh", "notebooks/zh") if CHINESE else ("README", "notebooks")
extensions = ["myst_nb"]
include_patterns = ["CONTRIBUTING.md", "CHANGELOG.md", f"{folder}/*.ipynb"]
include_patterns += [f"{root_doc}.md", f"data/{root_doc}.md"]

nb_execution_mode = "off"
nb_merge_streams = True
nb_code_prompt_show = say("A solution")
nb_code_prompt_hide = say("Fold the solution")
# Show the image stored with a slider, not its text.
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
    "article_header_end": ["language.html", "article-header-buttons.html"],
}
html_context = {"default_mode": "auto"}  # light or dark, like the reader's system
html_copy_source = False
html_static_path = ["static"]
templates_path = ["templates"]
html_css_files = ["book.css"]


def toctree(app) -> str:
    lessons = sorted(p for p in app.env.found_docs if p.startswith("notebooks/"))
    names = "\n".join([*lessons, f"data/{root_doc}", "CONTRIBUTING", "CHANGELOG"])
    return f"\n```{{toctree}}\n:hidden:\n\n{names}\n```\n"


def prepare(app, docname: str, source: list[str]) -> None:
    """The README gets the list of pages; lessons what a page without a kernel needs."""
    text = FIRST_LINE.sub("", source[0])
    source[0] = text.replace("](README.md)", f"]({root_doc}.md)")
    if docname == root_doc:
        source[0] += toctree(app)
    if docname.startswith("notebooks/"):
        nb = json.loads(source[0])
        links = launch(ADDRESS, f"{docname}.ipynb")
        home = os.path.relpath(f"{root_doc}.md", folder)
        top = say(
            "*A page: it shows stored results, and its sliders do not move. To run it: "
            "{}[on your machine]({}).*"
        ).format(f"{links} · " if links else "", home)
        first = nb["cells"][0]
        title, _, text = "".join(first["source"]).partition("\n")
        first["source"] = f"{title}\n\n{top}\n\n{text}"
        for cell in nb["cells"]:
            if cell["cell_type"] == "code":
                prepare_code(cell, Path(docname).name)
        source[0] = json.dumps(nb)


def prepare_code(cell: dict, lesson: str) -> None:
    """Fold solutions, hide cells that only assert, describe images in words."""
    tags = cell["metadata"].setdefault("tags", [])
    if "solution" in tags:
        tags.append("hide-cell")
    code = "".join(cell["source"])
    if not code.lstrip().startswith(("%", "!")):
        statements = []
        for node in ast.parse(code).body:  # also those of one condition or loop
            statements += getattr(node, "body", [node])
        if statements and all(isinstance(node, ast.Assert) for node in statements):
            tags.append("remove-cell")
    image = {"alt": alt(cell, lesson)}
    if columns := COLUMNS.search(code):  # book.css scrolls wide sheets on a phone
        image["classes"] = f"columns-{columns[1] or columns[2]}"
    cell["metadata"]["mystnb"] = {"image": image}


def alt(cell: dict, lesson: str) -> str:
    """What an image shows: its own words, an explorer's line, or those of alt.json."""
    for output in cell["outputs"]:
        for kind, metadata in output.get("metadata", {}).items():
            if kind.startswith("image/") and "alt" in metadata:
                return metadata["alt"]
        line = "".join(output.get("data", {}).get("text/plain", ""))
        if "image/jpeg" in output.get("data", {}) and "  # seed" in line:
            return say("Images by {}").format(line.replace("  #", ","))
    written = ALT.get(lesson, {})
    return say(written.get(cell["id"], f"Output of the cell {cell['id']}"))


def switch(app, pagename: str, template: str, context: dict, doctree) -> None:
    """Where the same page of the other edition is, if there is one."""
    if CHINESE:
        page = pagename.replace("README.zh", "README").replace("/zh/", "/")
        here, there, name = f"zh/{pagename}", page, "English"
    else:
        page = re.sub("README$", "README.zh", pagename)
        page = re.sub("^notebooks/", "notebooks/zh/", page)
        here, there, name = pagename, f"zh/{page}", "中文"
    if (ROOT / "README.zh.md").exists():
        way = posixpath.relpath(f"{there}.html", posixpath.dirname(here) or ".")
        context["other_language"] = (way, name)


def index(app, error) -> None:
    """A browser opens a site at index.html."""
    if error is None and app.builder.name == "html":
        target = os.path.join(app.outdir, "index.html")
        with open(target, "w", encoding="utf-8") as file:
            file.write(
                "<!doctype html><title>README</title>"
                f'<meta http-equiv="refresh" content="0; url={root_doc}.html">'
                f'<a href="{root_doc}.html">README</a>\n'
            )


def formula(translator, node) -> None:
    """As MathML, which browsers draw themselves: MathJax would need the internet."""
    display = "block" if isinstance(node, nodes.math_block) else "inline"
    # As a superscript a prime, which is a raised sign already, would float.
    latex = node.astext().replace(r"^{\prime}", "′").replace("'", "′")
    translator.body.append(convert(latex, display=display))
    raise nodes.SkipNode


def setup(app) -> None:
    app.add_html_math_renderer("mathml", (formula, None), (formula, None))
    app.connect("source-read", prepare)
    app.connect("html-page-context", switch)
    app.connect("build-finished", index)
