"""Keep a learner's answers through an update of the lessons, and make student copies.

The lessons are those of the current folder, else the course's own. Each is copied to
answers/backup/ before it is changed. D2LEXT_ANSWERS names another folder for answers.
"""

import argparse
import contextlib
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterable, Iterator
from datetime import datetime
from pathlib import Path
from typing import NamedTuple

import nbformat

from d2lext.places import print_any_name

ROOT = Path(__file__).resolve().parents[2]
TEXT_STUBS = "*Double-click here, and write your answer.*", "*双击这里，写下你的答案。*"
STUB = re.compile(r"(def \w+\(.*\):\n    return \.\.\.)?")  # with a comment it is work
ZH = "zh/"  # marks what belongs to the Chinese lessons
HINT = re.compile(r" The folded cell below .*?\.|下面折叠的单元格.*?。")  # of solutions
NO_CLONE = (
    "git cannot update these lessons, which are in no clone of the course. Get newer "
    "ones (d2lext lab FOLDER), and restore your answers there, with D2LEXT_ANSWERS={}"
)


class Exercise(NamedTuple):
    """The cells of an exercise; several hold the answer if a reader has split one."""

    lesson: str
    answers: list[nbformat.NotebookNode]
    check: nbformat.NotebookNode | None

    @property
    def source(self) -> str:
        return "\n\n".join(a.source for a in self.answers if a.source.strip())


def _exercises(lesson: str, nb: nbformat.NotebookNode) -> dict[str, Exercise]:
    """The exercises of a lesson by their numbers, such as 1.1, in Chinese zh/1.1."""
    # Colab keeps ids in the metadata.
    ids = {cell.get("id") or cell.metadata.get("id", ""): cell for cell in nb.cells}
    names = [(id, []) for id in ids if id.startswith("solution-")]
    for cell in nb.cells:
        tags = cell.metadata.get("tags", [])
        names += [(tag, [cell]) for tag in tags if tag.startswith("exercise-")]
    found: dict[str, Exercise] = {}
    for name, answers in names:
        slug = name.partition("-")[2]
        number = (ZH if lesson.startswith(ZH) else "") + slug.replace("-", ".")
        empty = Exercise(lesson, [], ids.get(f"check-{slug}"))
        found.setdefault(number, empty).answers.extend(answers)
    return found


def _home(root: Path) -> Path:
    """The folder of the lessons of a course, or of a folder of lessons."""
    return root / "notebooks" if (root / "notebooks").is_dir() else root


def _lessons(root: Path) -> tuple[dict, dict[str, list[Exercise]]]:
    """The lessons by name, Chinese ones in zh/, and where each exercise is found."""
    folder, lessons, exercises = _home(root), {}, {}
    files = [*folder.glob("*.ipynb"), *folder.glob(f"{ZH}*.ipynb")]
    for path in sorted(files, key=lambda path: path.stem):  # copies come later
        name = path.relative_to(folder).as_posix()
        with _readable(f"{name}: is not a notebook; move it, and get the lesson back"):
            lessons[name] = nbformat.read(path, as_version=4)
            for id, exercise in _exercises(name, lessons[name]).items():
                exercises.setdefault(id, []).append(exercise)
    return lessons, exercises


@contextlib.contextmanager
def _readable(otherwise: str) -> Iterator[None]:
    """Say something else if there is an error, which may be of any kind."""
    try:
        yield
    except Exception as error:
        raise ValueError(f"{otherwise} ({type(error).__name__}: {error})") from error


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
    with _readable(f"{file}: is not a file of answers; move it, and save again"):
        answers = json.loads(file.read_text(encoding="utf-8"))["answers"]
        for answer in answers.values():
            _state(answer), answer["outputs"], answer["check_outputs"]
    return answers


def is_stub(source: str) -> bool:
    """Whether an answer is empty, or still the lesson's stub."""
    return source.strip() in TEXT_STUBS or bool(STUB.fullmatch(source.strip()))


def _state(answer: dict) -> str:
    """The state of an answer, by the last verdict of its check."""
    if is_stub(answer["source"]):
        return "untouched"
    if answer["kind"] == "markdown":
        return "written"
    outputs = (output.get("metadata", {}) for output in answer["check_outputs"])
    said = ["unanswered", *(m["d2lext"]["verdict"] for m in outputs if "d2lext" in m)]
    return {"unanswered": "not checked yet", "right": "right"}.get(said[-1], "wrong")


def save(root: Path = ROOT) -> list[str]:
    """Save every answer in the lessons; return a line for each exercise.

    An answer saved before stays if the lesson's is untouched. Raises as `restore` does.
    """
    file = _folder(root) / "answers.json"
    answers, lines = _read(file), []
    for id, (exercise, *others) in _lessons(root)[1].items():
        lines += [f"{id}: is also in {o.lesson}, which was ignored" for o in others]
        if not exercise.answers:
            lines.append(f"{id}: its answer cell is missing in {exercise.lesson}")
            continue
        found = {
            "lesson": exercise.lesson,
            "kind": exercise.answers[0].cell_type,
            "source": exercise.source,
            "outputs": exercise.answers[-1].get("outputs", []),
            "check_outputs": (exercise.check or {}).get("outputs", []),
        }
        old = answers.get(id, found)
        if is_stub(found["source"]) and not is_stub(old["source"]):
            lines.append(f"{id}: untouched in {exercise.lesson}; kept the saved answer")
        else:
            before = [{"source": old["source"]}] * (old["source"] != found["source"])
            answers[id] = found | {"earlier": old.get("earlier", []) + before}
            lines.append(f"{id}: {_state(found)}")
    _write(file, json.dumps({"answers": answers}, indent=1) + "\n")
    return lines


def restore(root: Path = ROOT) -> list[str]:
    """Put saved answers into lessons that have none; return a line for each exercise.

    Raises ValueError, and writes nothing, if the file or a lesson cannot be read.
    """
    file = _folder(root) / "answers.json"
    if not (answers := _read(file)):
        raise ValueError(f"{file}: has no saved answers; save them first")
    (lessons, exercises), changed, lines = _lessons(root), {}, []
    places = {id: found[0] for id, found in exercises.items() if found[0].answers}
    for id in places:  # one that is untouched takes the other language's answer
        twin = answers.get(id.removeprefix(ZH) if id.startswith(ZH) else f"{ZH}{id}")
        if twin and is_stub(answers.get(id, {"source": ""})["source"]):
            answers[id] = twin
    for id, answer in answers.items():
        words, place = _state(answer), places.get(id)
        if words == "untouched":
            pass
        elif place is None:
            words = f"no lesson has this exercise any more; kept in {file}"
        elif place.source == answer["source"]:
            words += ", already in the lesson"
        elif not is_stub(place.source):
            words = f"{place.lesson} has another answer, which stays"
        else:
            _put(place.answers[0], answer["kind"], answer["source"], answer["outputs"])
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
    run = {"outputs": outputs, "execution_count": None}
    for key in run:
        cell.pop(key, None)
    new = {"cell_type": kind, "source": source} | (run if kind == "code" else {})
    cell.update(nbformat.from_dict(new))


def _back_up(names: Iterable[str], root: Path) -> Path:
    """Copy lessons to a new folder in backup/, and return it."""
    folder = _folder(root) / f"backup/{datetime.now():%Y-%m-%d-%H%M%S-%f}"
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(_home(root) / name, folder / name)
    return folder


def update(root: Path = ROOT) -> list[str]:
    """Save the answers, pull the course with git, and restore the answers.

    If git cannot pull, the lessons stay as they were, and this raises ValueError.
    """
    lines, folder = save(root), root / "notebooks"
    with _readable(NO_CLONE.format(_folder(root).resolve())):
        _git(folder, "ls-files", "--error-unmatch", ".")
    _git(folder, "merge", "HEAD")  # git refuses this during an unfinished merge
    _git(folder, "fetch")
    how = ("--name-only", "--relative", "--diff-filter=M", "-z")
    changed = _git(folder, "diff", *how, "HEAD", "--", ".").split("\0")[:-1]
    backup = _back_up(changed, root)
    try:
        _git(folder, "checkout", "HEAD", "--", *changed)
        pulled = _git(folder, "merge", "--ff-only", "@{upstream}")
    except BaseException:  # an interrupt too
        for name in changed:
            shutil.copy2(backup / name, folder / name)
        raise
    kept = f"backup of your lessons: {backup}" if changed else "no lesson was changed"
    return [*lines, kept, pulled.strip().splitlines()[-1], *restore(root)]


def _git(folder: Path, *words: str) -> str:
    how = {"capture_output": True, "encoding": "utf-8", "errors": "replace"}
    done = subprocess.run(["git", "-C", str(folder), *words], **how)
    if done.returncode:
        said = (done.stderr + done.stdout).strip()
        also = "; merge by hand, then restore" if "fast-forward" in said else ""
        raise ValueError(f"git {words[0]}: {said}{also}")
    return done.stdout


def student(root: Path = ROOT) -> list[str]:
    """Write the lessons without solutions to student/; return a line for each."""
    lines = []
    for name, nb in _lessons(root)[0].items():
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
        if any(any(root.glob(p)) for p in ("notebooks", "*.ipynb", f"{ZH}*.ipynb")):
            return root
    raise ValueError(f"{folder}: has no lessons; change to the folder of yours")


def main(argv: list[str] | None = None) -> int:
    print_any_name()
    what = {"save": save, "restore": restore, "update": update, "student": student}
    parser = argparse.ArgumentParser("d2lext answers", description=__doc__)
    parser.add_argument("what", choices=what)
    try:
        print("\n".join(what[parser.parse_args(argv).what](_here())))
    except (ValueError, OSError) as error:
        how = "; use a copy of notebooks/, or set D2LEXT_ANSWERS to another folder"
        print(f"answers: {error}{how * isinstance(error, OSError)}", file=sys.stderr)
        return 1
    return 0
