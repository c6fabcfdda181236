"""Write the address of the course into the lessons and the README.

`python -m tools.address` does so, as a part of `make notebooks`. The address is one
constant, `address` below [tool.d2lext] in pyproject.toml: the repository's on GitHub,
such as https://github.com/OWNER/NAME. While it is empty there are no links to Colab,
Kaggle and Binder, and the first cell of a lesson asks for an address.
"""

import re
import sys
import tomllib
from pathlib import Path

import nbformat

ROOT = Path(__file__).resolve().parent.parent
CELL = """\
# In Colab, on Kaggle or on a hub: uncomment the next line and run this cell.
# %pip install --quiet {}
try:
    import d2lext as d2l
except ModuleNotFoundError:
    raise SystemExit("d2lext is not installed here: see the lines above") from None"""
LAUNCH = {
    "Colab": "https://colab.research.google.com/github/{repo}/blob/main/{path}",
    "Kaggle": "https://kaggle.com/kernels/welcome?src={address}/blob/main/{path}",
    "Binder": "https://mybinder.org/v2/gh/{repo}/main?labpath={path}",
}
BADGES = "<!-- The next line is written by tools/address.py. -->\n"
READMES = {  # the sentence of each, and the lesson that it opens
    "README.md": ("Open lesson 1 in {}.", "notebooks/01_flip.ipynb"),
    "README.zh.md": ("在 {} 中打开第 1 课。", "notebooks/zh/01_flip.ipynb"),
}


def address(root: Path = ROOT) -> str:
    with (root / "pyproject.toml").open("rb") as file:
        return tomllib.load(file)["tool"]["d2lext"]["address"].rstrip("/")


def first_cell(address: str) -> str:
    """The first cell of every lesson, which says what to do, and installs nothing."""
    return CELL.format(f"git+{address}" if address else "ADDRESS-OF-THE-COURSE")


def launch(address: str, path: str) -> str:
    """Markdown links that open a notebook elsewhere; none without an address."""
    repo = address.removeprefix("https://github.com/")
    links = (
        f"[{name}]({link.format(repo=repo, address=address, path=path)})"
        for name, link in LAUNCH.items()
    )
    return " · ".join(links) if address else ""


def with_links(text: str, address: str, name: str = "README.md") -> str:
    """A README with its line of links, which is empty without an address."""
    sentence, lesson = READMES.get(name, ("", ""))
    line = sentence.format(launch(address, lesson)) if address else ""
    return re.sub(f"({re.escape(BADGES)}).*", lambda match: match[1] + line, text)


def main(root: Path = ROOT) -> int:
    here, wrong = address(root), 0
    for path in sorted((root / "notebooks").glob("*.ipynb")):
        nb = nbformat.read(path, as_version=4)
        first = next(cell for cell in nb.cells if cell.cell_type == "code")
        if not first.source.startswith(("import d2lext as d2l", CELL[:20])):
            words = "the first code cell does not begin with import d2lext as d2l"
            print(f"{path.name}: {words}", file=sys.stderr)
            wrong = 1
        elif first.source != first_cell(here):
            first.source = first_cell(here)
            nbformat.write(nb, path)
            print(f"{path.name}: wrote its first cell")
    readme = root / "README.md"
    text = readme.read_text(encoding="utf-8")
    new = with_links(text, here)
    if new != text:
        readme.write_text(new, encoding="utf-8", newline="\n")
        print("README.md: wrote its links")
    return wrong


if __name__ == "__main__":
    sys.exit(main())
