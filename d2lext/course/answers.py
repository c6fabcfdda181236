"""Keep a learner's answers through an update of the lessons, and make student copies.

    python -m d2lext answers save       save every answer to answers/answers.json
    python -m d2lext answers restore    put saved answers back into the lessons
    python -m d2lext answers update     save, pull the course with git, and restore
    python -m d2lext answers student    copy the lessons without solutions to student/

An answer belongs to its exercise, in whichever lesson that is. Each lesson is copied to
answers/backup/ before it is changed, and answers.json keeps a replaced answer as an
earlier one. The lessons are those of the current folder, else the course's own;
D2LEXT_ANSWERS names another folder for answers.
"""

import argparse
import ast
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

import nbformat

from d2lext.places import print_any_name

ROOT = Path(__file__).resolve().parents[2]
TEXT_STUBS = (
    "*Double-click here, and write your answer.*",
    "*双击这里，写下你的答案。*",
)
ZH = "zh/"  # marks what belongs to the Chinese lessons
TAG = "exercise-"  # tags an answer cell with its exercise; copies of a cell keep it
HINT = re.compile(
    r" The folded cell below (it|them) holds a solution\."
    r"|下面折叠的单元格里有参考答案。"
)
ELSEWHERE = (
    "if you may not write to the course's folder, copy its notebooks/ to one of yours "
    "and work there, or set D2LEXT_ANSWERS to another folder for answers"
)
NO_CLONE = (
    "these lessons are in no clone of the course, so git cannot update them; your "
    "answers are saved in {0}. Get newer lessons (from a wheel: python -m d2lext lab "
    "FOLDER) and restore the answers there with D2LEXT_ANSWERS={0}"
)


class Exercise(NamedTuple):
    """The cells of an exercise; several hold the answer if a reader has split one."""

    lesson: str
    answers: list[nbformat.NotebookNode]
    check: nbformat.NotebookNode | None

    @property
    def source(self) -> str:
        return "\n\n".join(a.source for a in self.answers if a.source.strip())


def _id(cell: nbformat.NotebookNode) -> str:
    """A cell's id, which Colab keeps in the metadata."""
    return cell.get("id") or cell.metadata.get("id", "")


def _exercises(name: str, nb: nbformat.NotebookNode) -> dict[str, Exercise]:
    """The exercises of a lesson by their numbers, such as 1.1, in Chinese zh/1.1."""
    language = ZH if name.startswith(ZH) else ""
    by_id = {_id(cell): cell for cell in nb.cells}
    found: dict[str, Exercise] = {}
    for cell in nb.cells:
        for tag in cell.metadata.get("tags", []):
            if tag.startswith(TAG):
                slug = tag.removeprefix(TAG)
                empty = Exercise(name, [], by_id.get(f"check-{slug}"))
                number = language + slug.replace("-", ".")
                found.setdefault(number, empty).answers.append(cell)
    return found


def _home(root: Path) -> Path:
    """The folder of the lessons of a course, or of a folder of lessons."""
    return root / "notebooks" if (root / "notebooks").is_dir() else root


def _lessons(root: Path) -> dict[str, nbformat.NotebookNode]:
    """The lessons by name, Chinese ones in zh/; JupyterLab's duplicates come last."""
    folder, lessons = _home(root), {}
    files = [*folder.glob("*.ipynb"), *folder.glob(f"{ZH}*.ipynb")]
    for path in sorted(files, key=lambda p: (bool(re.search(r"-Copy\d+$", p.stem)), p)):
        name = path.relative_to(folder).as_posix()
        try:
            lessons[name] = nbformat.read(path, as_version=4)
            _exercises(name, lessons[name])
        except Exception as error:  # what nbformat raises depends on what is broken
            raise ValueError(
                f"{name}: is not a notebook ({type(error).__name__}); "
                "move it elsewhere, and get the lesson back (in a clone with: git "
                f"checkout -- notebooks/{name})"
            ) from error
    return lessons


def _folder(root: Path) -> Path:
    return Path(os.environ.get("D2LEXT_ANSWERS") or root / "answers").expanduser()


def _write(path: Path, text: str) -> None:
    """Write a file atomically: a kill leaves the old one intact."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + ".part")
    part.write_text(text, encoding="utf-8", newline="\n")  # as git has lessons
    os.replace(part, path)


def _read(file: Path) -> dict[str, dict]:
    if not file.exists():
        return {}
    try:
        answers = json.loads(file.read_text(encoding="utf-8"))["answers"]
        for answer in answers.values():
            answer["source"].strip(), answer["outputs"], answer["check_outputs"]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        words = f"{file}: is not a file of answers ({type(error).__name__}: {error})"
        raise ValueError(f"{words}; move it, and save again") from error
    return answers


def is_stub(source: str) -> bool:
    """Whether an answer is empty, or still the lesson's stub.

    A stub is a function that only returns `...`, or the text that asks for an answer.
    With a comment it is somebody's work already.
    """
    if source.strip() in ("", *TEXT_STUBS):
        return True
    try:
        body = ast.parse(source).body
    except SyntaxError:
        return False  # somebody's work
    if len(body) != 1 or not isinstance(body[0], ast.FunctionDef) or "#" in source:
        return False
    return ast.unparse(body[0].body) == "return ..."


def _state(answer: dict) -> str:
    """The state of an answer, by the last verdict of its check."""
    if is_stub(answer["source"]):
        return "untouched"
    if answer.get("kind") == "markdown":
        return "written"
    outputs = (output.get("metadata", {}) for output in answer["check_outputs"])
    said = [m["d2lext"]["verdict"] for m in outputs if "d2lext" in m][-1:]
    if said in ([], ["unanswered"], ["unknown"]):
        return "not checked yet"
    return "right" if said == ["right"] else "wrong"


def save(root: Path = ROOT) -> list[str]:
    """Save every answer in the lessons; return a line for each exercise.

    If the lesson's answer is untouched, an answer saved before stays in the file.
    Raises ValueError, and writes nothing, if the file or a lesson cannot be read.
    """
    file = _folder(root) / "answers.json"
    answers, lines, seen = _read(file), [], set()
    for name, nb in _lessons(root).items():
        exercises = _exercises(name, nb)
        ids = re.findall(r"solution-(\d+)-(\d+)", " ".join(map(_id, nb.cells)))
        there = {id.removeprefix(ZH) for id in exercises}
        for id in {".".join(id) for id in ids} - there:
            lines.append(f"{id}: its answer cell is missing in {name}")
        for id, exercise in exercises.items():
            if id in seen:
                lines.append(f"{id}: is also in {name}, which was ignored")
                continue
            seen.add(id)
            found = {
                "lesson": name,
                "kind": exercise.answers[0].cell_type,
                "source": exercise.source,
                "outputs": exercise.answers[-1].get("outputs", []),
                "check_outputs": (exercise.check or {}).get("outputs", []),
            }
            before = answers.get(id, found)
            if is_stub(found["source"]) and not is_stub(before["source"]):
                lines.append(f"{id}: untouched in {name}; kept the saved answer")
                continue
            found["earlier"] = before.get("earlier", [])
            if before["source"] != found["source"]:
                found["earlier"].append({"source": before["source"]})
            answers[id] = found
            lines.append(f"{id}: {_state(found)}")
    _write(file, json.dumps({"answers": answers}, indent=1) + "\n")
    return lines


def restore(root: Path = ROOT) -> list[str]:
    """Put saved answers into lessons that have none; return a line for each exercise.

    An answer in a lesson stays, but an outdated copy does not. Raises as `save` does.
    """
    file = _folder(root) / "answers.json"
    if not (answers := _read(file)):
        raise ValueError(f"{file}: has no saved answers; save them first")
    lessons, changed, lines, stale = _lessons(root), {}, [], {}
    places: dict[str, Exercise] = {}
    for name, nb in lessons.items():
        places = _exercises(name, nb) | places  # the first one, if it is there twice
    for id in places:  # an answer in one language goes into the other one, too
        twin = answers.get(id.removeprefix(ZH) if id.startswith(ZH) else f"{ZH}{id}")
        own = answers.get(id, {"source": ""})
        ever = [a["source"] for a in (own, *own.get("earlier", []))]
        old = [a["source"] for a in (twin or {}).get("earlier", [])]
        if twin and all(is_stub(source) or source in old for source in ever):
            stale[id], answers[id] = own["source"], twin
    for id, answer in answers.items():
        words, place = _state(answer), places.get(id)
        sources = [a.source for a in place.answers] if place else []
        if words == "untouched":
            pass
        elif place is None:
            words = f"no lesson has this exercise any more; kept in {file}"
        elif place.source == answer["source"]:
            words += ", already in the lesson"
        elif not is_stub(place.source) and sources != [stale.get(id)]:
            words = f"{place.lesson} has another answer, which stays; the saved "
            words += f"one is in {file}"
        else:
            kind = answer.get("kind", "code")
            _put(place.answers[0], kind, answer["source"], answer["outputs"])
            if place.check is not None:
                _put(place.check, "code", place.check.source, answer["check_outputs"])
            changed[place.lesson] = lessons[place.lesson]
            words += f", put back into {place.lesson}"
        lines.append(f"{id}: {words}")
    _back_up(changed, root)
    for name, nb in changed.items():
        _write(_home(root) / name, nbformat.writes(nb) + "\n")
    return lines


def _put(cell: nbformat.NotebookNode, kind: str, source: str, outputs: list) -> None:
    """Write source and outputs into a cell, and change its kind."""
    cell.cell_type, cell.source = kind, source
    cell.pop("outputs", None)
    count = cell.pop("execution_count", None)
    if kind == "code":
        cell.outputs = [nbformat.from_dict(output) for output in outputs]
        cell.execution_count = count


def _back_up(names, root: Path) -> Path | None:
    """Copy lessons to a new folder in backup/, and return it; None without lessons."""
    if not names:
        return None
    backup = _folder(root) / "backup"
    backup.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp("", time.strftime("%Y-%m-%d-%H%M%S-"), backup))
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(_home(root) / name, folder / name)
    return folder


def update(root: Path = ROOT) -> list[str]:
    """Save the answers, pull the course with git, and restore the answers.

    Changed lessons are backed up and reset, so that git can pull. If it cannot, the
    lessons stay as they were, and this raises ValueError.
    """
    lines = save(root)
    try:
        known = _git(root, "ls-files", "notebooks")
    except (ValueError, FileNotFoundError):  # no repository, no git
        known = ""
    if not known:
        raise ValueError(NO_CLONE.format(_folder(root).resolve()))
    _git(root, "merge", "HEAD")  # git refuses this during an unfinished merge
    _git(root, "fetch")
    how = ("--name-only", "--relative", "--diff-filter=M", "-z")
    changed = _git(root / "notebooks", "diff", *how, "HEAD", "--", ".").split("\0")[:-1]
    folder = _back_up(changed, root)
    try:
        if changed:
            _git(root / "notebooks", "checkout", "HEAD", "--", *changed)
        pulled = _git(root, "merge", "--ff-only", "@{upstream}")
    except BaseException:  # an interrupt too
        for name in changed:
            shutil.copy2(folder / name, root / "notebooks" / name)
        raise
    kept = f"backup of your lessons: {folder}" if folder else "no lesson was changed"
    return [*lines, kept, pulled.strip().splitlines()[-1], *restore(root)]


def _git(root: Path, *words: str) -> str:
    how = {"capture_output": True, "encoding": "utf-8", "errors": "replace"}
    done = subprocess.run(["git", "-C", str(root), *words], **how)
    if done.returncode:
        said = done.stderr.strip() or done.stdout.strip() or "no"
        also = "; merge by hand, then restore" if "fast-forward" in said else ""
        raise ValueError(f"git {words[0]}: {said}{also}")
    return done.stdout


def student(root: Path = ROOT) -> list[str]:
    """Write the lessons without solutions to student/; return a line for each."""
    lines = []
    for name, nb in _lessons(root).items():
        kept = [c for c in nb.cells if "solution" not in c.metadata.get("tags", [])]
        removed, nb.cells = len(nb.cells) - len(kept), kept
        for cell in kept:
            cell.source = HINT.sub("", cell.source)
        _write(root / "student" / name, nbformat.writes(nb) + "\n")
        exercises = _exercises(name, nb).items()
        answered = [id for id, exercise in exercises if not is_stub(exercise.source)]
        also = f", but it answers {', '.join(answered)}" if answered else ""
        lines.append(f"student/{name}: {removed} solutions left out{also}")
    return lines


def _here() -> Path:
    """The folder of the lessons to work on."""
    folder = Path.cwd()
    if folder.name == "zh" and not (folder / "zh").exists():
        folder = folder.parent  # from the Chinese lessons; those of both have a zh, too
    folder = folder.parent if folder.name == "notebooks" else folder
    for root in (folder, ROOT):
        chinese = [] if (root / "zh/zh").exists() else [f"{ZH}*.ipynb"]
        if any(any(root.glob(p)) for p in ("notebooks", "*.ipynb", *chinese)):
            return root
    raise ValueError(f"{folder}: has no lessons; change to the folder of yours")


def main(argv: list[str] | None = None) -> int:
    print_any_name()
    what = {"save": save, "restore": restore, "update": update, "student": student}
    parser = argparse.ArgumentParser(prog="python -m d2lext answers")
    parser.add_argument("what", choices=what, help="save, restore, update or student")
    try:
        print("\n".join(what[parser.parse_args(argv).what](_here())))
    except KeyboardInterrupt:
        print("answers: stopped", file=sys.stderr)
        return 130
    except (ValueError, OSError) as error:
        also = f"; {ELSEWHERE}" if isinstance(error, OSError) else ""
        print(f"answers: {error}{also}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
