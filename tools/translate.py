"""Keep the Chinese edition in step with the English one, which is its source.

`python -m tools.translate` brings `translations/zh/*.po` up to date, one message for
each Markdown cell, and writes the Chinese lessons, READMEs and words of the checks.
A message whose English has changed becomes fuzzy. Fuzzy and missing messages are
listed, and fall back to English. `--check` writes nothing, and fails if there is
something to list or to write. To translate in an editor:

    python -m tools.translate 01_flip --export FILE.md
    python -m tools.translate 01_flip --import FILE.md

A file holds each message in English, below `@@ CONTEXT`, and in Chinese, below `@@ zh`.
If the Chinese of a message marked (changed) still holds as it is, delete the mark.
"""

import argparse
import ast
import json
import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from babel.messages.pofile import denormalize, normalize, read_po

from d2lext.course.answers import TEXT_STUBS
from tools import address

ROOT = Path(__file__).resolve().parent.parent
HEADER = r"""msgid ""
msgstr ""
"Language: zh_CN\n"
"Content-Type: text/plain; charset=utf-8\n"
"Content-Transfer-Encoding: 8bit\n"
"""
READMES = {"README": "README.md", "data_README": "data/README.md"}
# The first lines of the two, each leading to the other.
SWITCH, SWITCH_ZH = "[中文](README.zh.md)\n\n", "[English](README.md)\n\n"
WORDS = "d2lext/course/zh.json"
LANGUAGE = '\nd2l.language("zh")'
Messages = dict[str, str]  # by their contexts: a cell's id, a section's title


# The English: what is to be translated.


def sources(root: Path = ROOT) -> dict[str, Messages]:
    """The messages of each file in translations/zh/, by its name."""
    found = {}
    for path in sorted((root / "notebooks").glob("[0-9][0-9]_*.ipynb")):
        cells = [cell for cell in _read(path)["cells"] if cell["cell_type"] != "code"]
        texts = {cell["id"]: "".join(cell["source"]) for cell in cells}
        found[path.stem] = {i: t for i, t in texts.items() if t not in TEXT_STUBS}
    for name, path in READMES.items():
        found[name] = _sections((root / path).read_text(encoding="utf-8"))
    exercises = sorted((root / "d2lext/course/exercises").glob("*.py"))
    found["exercises"] = dict(text for path in exercises for text in _words(path))
    found["site"] = dict(_words(root / "tools/site/conf.py"))
    for lesson, texts in _read(root / "tools/site/alt.json").items():
        found["site"] |= {f"{lesson}.{cell}": text for cell, text in texts.items()}
    return found


def _read(path: Path) -> dict:
    return json.loads(path.read_text(encoding="utf-8"))


def _sections(text: str) -> Messages:
    """A README in parts, by their titles; without what is generated in it."""
    text = address.with_links(text.removeprefix(SWITCH), "").rstrip("\n")
    parts = re.split(r"\n\n(?=## )", text)
    return {part.partition("\n")[0].lstrip("# "): part for part in parts}


def _words(path: Path) -> Iterator[tuple[str, str]]:
    """The sentences of a module: in WORDS and ANY, in `say(...)`, as `wanted=...`."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Dict):
            if ast.unparse(node.targets) in ("WORDS", "ANY"):
                for key, text in ast.literal_eval(node.value).items():
                    yield f"{path.stem}.{key}", text
        elif isinstance(node, ast.Call):
            texts = [k.value for k in node.keywords if k.arg == "wanted"]
            texts += node.args[:1] if ast.unparse(node.func) == "say" else []
            for text in texts:
                if isinstance(text, ast.Constant) and isinstance(text.value, str):
                    yield text.value, text.value


# The Chinese: messages in PO files.


class Message(NamedTuple):
    """A translation; `previous` is the English that it is of, if not today's."""

    english: str
    chinese: str = ""
    previous: str = ""

    @property
    def done(self) -> bool:
        return bool(self.chinese and not self.previous)


Catalog = dict[str, Message]  # by their contexts


def catalog(file: Path) -> Catalog:
    """The messages of a PO file, if it exists."""
    found = {}
    if file.exists():
        with file.open("rb") as opened:
            for m in read_po(opened, charset="utf-8", abort_invalid=True):
                if m.id:
                    lines = [c[1:].strip() for c in m.user_comments if c[:1] == "|"]
                    quoted = "\n".join(lines).removeprefix("msgid ")
                    previous = denormalize(quoted) if m.fuzzy else ""
                    found[m.context] = Message(m.id, m.string, previous)
    return found


def updated(old: Catalog, messages: Messages) -> Catalog:
    """Today's messages with the translations that there are."""
    by_english, new = {m.english: m for m in old.values() if m.done}, {}
    for context, english in messages.items():
        there = old.get(context, Message(english))
        if there.english != english:  # of other words: to be looked through
            previous = there.chinese and (there.previous or there.english)
            there = Message(english, there.chinese, previous)
        new[context] = there if there.done else by_english.get(english, there)
    return new


def po(messages: Catalog) -> str:
    """The text of a PO file."""
    text = HEADER
    for context, (english, chinese, previous) in messages.items():
        if previous:
            text += f"\n#, fuzzy\n#| msgid {normalize(previous, '#| ', width=0)}"
        text += f"\nmsgctxt {normalize(context, width=0)}"
        text += f"\nmsgid {normalize(english, width=0)}"
        text += f"\nmsgstr {normalize(chinese, width=0)}\n"
    return text


def exported(messages: Catalog) -> str:
    """For an editor: English below its context, Chinese below it."""
    parts = []
    for context, message in messages.items():
        state = "" if message.done else " (changed)" if message.chinese else " (new)"
        parts.append(
            f"@@ {context}{state}\n{message.english}\n@@ zh\n{message.chinese}"
        )
    return "\n\n".join(parts) + "\n"


def imported(messages: Catalog, text: str) -> Catalog:
    """The messages, with the Chinese from an edited file."""
    parts = re.split(r"(?m)^@@ (.*)\n", text)[1:]
    if parts[2::4] != ["zh"] * (len(parts) // 4) or len(parts) % 4:
        raise ValueError("each `@@ CONTEXT` must be followed by one `@@ zh`")
    new = dict(messages)
    columns = (parts[::4], parts[1::4], parts[3::4])
    for context, english, chinese in zip(*columns, strict=True):
        context, changed = re.subn(r" \(changed\)$", "", context.removesuffix(" (new)"))
        if context not in messages:
            raise ValueError(f"there is no message {context!r}; export again")
        if messages[context].english.strip() != english.strip():
            raise ValueError(f"the English of {context!r} is another; export again")
        if not changed or chinese.strip() != messages[context].chinese.strip():
            new[context] = Message(messages[context].english, chinese.strip())
    return new


# The Chinese edition, from both.


def edition(root: Path, chinese: dict[str, Catalog]) -> dict[str, str]:
    """The generated files, path -> text; English where there is no Chinese."""
    say = {
        name: {c: m.chinese if m.done else m.english for c, m in messages.items()}
        for name, messages in chinese.items()
    }
    here = address.address(root)
    words = [m for m in chinese["exercises"].values() if m.done]
    words = {m.english: m.chinese for m in sorted(words)}
    files = {WORDS: json.dumps(words, indent=1, ensure_ascii=False)}
    pages = {f"notebooks/{name}.ipynb": name for name in say if name[0].isdigit()}
    pages |= {path: name for name, path in READMES.items()}
    for path, name in pages.items():
        texts = {c: _linked(text, path, pages) for c, text in say[name].items()}
        if path.endswith(".md"):
            text = address.with_links("\n\n".join(texts.values()), here, _there(path))
            files[_there(path)] = SWITCH_ZH + text
            english = (root / path).read_text(encoding="utf-8").removeprefix(SWITCH)
            files[path] = SWITCH + english.rstrip("\n")
        else:
            nb = json.loads((root / path).read_text(encoding="utf-8"))
            _translate(nb["cells"], texts, words)
            files[_there(path)] = json.dumps(nb, indent=1, ensure_ascii=False)
    return {path: f"{text}\n" for path, text in files.items()}


def _there(path: str) -> str:
    """Where the Chinese version of a page is."""
    if path.endswith(".md"):
        return path.replace(".md", ".zh.md")
    return path.replace("notebooks/", "notebooks/zh/")


def _linked(text: str, path: str, pages: dict[str, str]) -> str:
    """With links that lead from the Chinese page where they should."""

    def link(match: re.Match) -> str:
        target, mark, anchor = match[2].partition("#")
        if not target or re.match("[a-z]+:", target):
            return match[0]
        target = os.path.normpath(os.path.join(os.path.dirname(path), target))
        target = _there(target) if target in pages else target
        relative = os.path.relpath(target, os.path.dirname(_there(path)))
        return f"{match[1]}{relative}{mark}{anchor}"

    return re.sub(r"(\]\(\s*)([^)\s]+)", link, text)


def _translate(cells: list[dict], texts: Messages, words: dict[str, str]) -> None:
    """Put Chinese into a lesson's cells and verdicts; the rest stays as it is."""
    code = [cell for cell in cells if cell["cell_type"] == "code"]
    first = "".join(code[0]["source"]) + LANGUAGE
    code[0]["source"] = first.splitlines(keepends=True)
    for cell in cells:
        source = "".join(cell["source"])
        if cell["cell_type"] != "code":
            stub = TEXT_STUBS[1] if source in TEXT_STUBS else source
            cell["source"] = texts.get(cell["id"], stub).splitlines(keepends=True)
        for output in cell.get("outputs", []):
            if "d2lext" in output.get("metadata", {}):
                id, _, said = "".join(output["data"]["text/plain"]).partition(": ")
                line = words.get("{}: {}", "{}: {}").format(id, words.get(said, said))
                output["data"]["text/plain"] = [line]


# The command.


def main(argv: list[str] | None = None, root: Path = ROOT) -> int:
    parser = argparse.ArgumentParser("python -m tools.translate", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--check", action="store_true", help="write nothing")
    parser.add_argument("name", nargs="?", help="of the file to export or import")
    parser.add_argument("--export", type=Path, metavar="FILE")
    parser.add_argument("--import", type=Path, metavar="FILE", dest="edited")
    args, folder = parser.parse_args(argv), root / "translations/zh"
    english = sources(root)
    old = {name: catalog(folder / f"{name}.po") for name in english}
    new = {name: updated(old[name], texts) for name, texts in english.items()}
    if args.export or args.edited:
        if args.name not in new:
            parser.error(f"name one of {', '.join(new)}")
        if args.export:
            args.export.write_text(exported(new[args.name]), encoding="utf-8")
            return 0
        text = args.edited.read_text(encoding="utf-8")
        messages = imported(new[args.name], text)
        _write(folder / f"{args.name}.po", po(messages))
        left = [context for context, m in messages.items() if not m.done]
        print(f"{args.name}: {len(left)} of {len(messages)} left", *left)
        return 0
    files = {f"translations/zh/{name}.po": po(m) for name, m in new.items()}
    files |= edition(root, new)
    stale = [path for path, text in files.items() if _text(root / path) != text]
    for path in stale:
        if args.check:
            print(f"translate: {path} is stale: run `python -m tools.translate`")
        else:
            _write(root / path, files[path])
            print(f"translate: wrote {path}")
    left = [(n, c, m) for n, ms in new.items() for c, m in ms.items() if not m.done]
    for name, context, message in left:
        state = "changed" if message.chinese else "missing"
        print(f"translate: {name}: {context}: {state}", file=sys.stderr)
    print(f"translate: {len(left)} of {sum(map(len, new.values()))} messages left")
    return int(args.check and bool(stale or left))


def _text(path: Path) -> str | None:
    return path.read_text(encoding="utf-8") if path.exists() else None


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8", newline="\n")


if __name__ == "__main__":
    sys.exit(main())
