"""Keep a learner's answers through an update of the lessons, and make student copies.

    python -m d2lext.course.answers save       every answer, to answers/answers.json
    python -m d2lext.course.answers restore    back into the lessons
    python -m d2lext.course.answers update     save, pull with git, restore
    python -m d2lext.course.answers student    without solutions, in student/

An answer belongs to its exercise, whatever the lesson is called and wherever in it the
exercise stands. Lessons are copied to answers/backup/ before they are written to. What
is replaced in answers.json stays there as an earlier answer. The lessons are those in
notebooks/ of the folder that you are in, else the course's own.
"""

import argparse
import ast
import json
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import NamedTuple

import nbformat

ROOT = Path(__file__).resolve().parents[2]
UNTOUCHED, WRONG, RIGHT = "untouched", "wrong", "right"
TEXT_STUB = "*Double-click here, and write your answer.*"
TAG = "exercise-"  # of an answer cell, with the exercise; copies of a cell keep it
COPY = re.compile(r"-Copy\d+$")  # what JupyterLab calls a duplicate
HINT = "; the folded cell below it holds a solution"


def _write(path: Path, text: str) -> None:
    """Under another name first: being killed here leaves the old file whole."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + ".part")
    part.write_text(text, encoding="utf-8")
    os.replace(part, path)


class Exercise(NamedTuple):
    """Where an exercise is answered: in several cells, if a reader has split one."""

    path: Path
    answers: list[nbformat.NotebookNode]
    check: nbformat.NotebookNode | None

    @property
    def source(self) -> str:
        return "\n\n".join(a.source for a in self.answers if a.source.strip())


def _files(root: Path) -> list[Path]:
    return sorted((root / "notebooks").glob("*.ipynb"))


def _lessons(root: Path) -> dict[Path, nbformat.NotebookNode]:
    lessons = {}
    for path in _files(root):
        if COPY.search(path.stem):
            continue
        try:
            lessons[path] = nbformat.read(path, as_version=4)
            _exercises(path, lessons[path])
        except Exception as error:  # what nbformat raises depends on what is broken
            raise ValueError(
                f"{path.name}: cannot be read as a notebook ({type(error).__name__}); "
                "move it elsewhere, and get the lesson back with: git checkout -- "
                f"notebooks/{path.name}"
            ) from error
    return lessons


def _exercises(path: Path, nb: nbformat.NotebookNode) -> dict[str, Exercise]:
    by_id = {cell.get("id"): cell for cell in nb.cells}
    found: dict[str, Exercise] = {}
    for cell in nb.cells:
        for tag in cell.metadata.get("tags", []):
            if tag.startswith(TAG):
                slug = tag.removeprefix(TAG)
                empty = Exercise(path, [], by_id.get(f"check-{slug}"))
                exercise = found.setdefault(slug.replace("-", "."), empty)
                exercise.answers.append(cell)
    return found


def _missing(nb: nbformat.NotebookNode, found: dict[str, Exercise]) -> list[str]:
    """Exercises of a lesson whose answer cell is gone."""
    kept = (re.fullmatch(r"solution-(\d+)-(\d+)", c.get("id", "")) for c in nb.cells)
    return [id for m in kept if m and (id := ".".join(m.groups())) not in found]


def is_stub(source: str) -> bool:
    """Whether an answer is as the lesson has it, or empty.

    As the lesson has it, that is a function which does nothing but return `...`, or the
    text that asks for one. A remark in it is somebody's work already.
    """
    if source.strip() in ("", TEXT_STUB):
        return True
    try:
        body = ast.parse(source).body
    except SyntaxError:
        return False  # somebody's work
    if len(body) != 1 or not isinstance(body[0], ast.FunctionDef) or "#" in source:
        return False
    return ast.unparse(body[0].body) == "return ..."


def _state(answer: dict) -> str:
    """What the check said when the reader ran it last."""
    if is_stub(answer["source"]):
        return UNTOUCHED
    if answer.get("kind") == "markdown":
        return "written"
    text = "".join(output.get("text", "") for output in answer["check_outputs"])
    if ": right: " in text:
        return RIGHT
    said = ": not yet: " in text or ": took longer than" in text
    return WRONG if said else "not checked yet"


def _read(file: Path) -> dict[str, dict]:
    if not file.exists():
        return {}
    try:
        answers = json.loads(file.read_text(encoding="utf-8"))["answers"]
        for answer in answers.values():
            answer["source"].strip(), answer["outputs"], answer["check_outputs"]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(
            f"{file}: holds no answers ({type(error).__name__}: {error}); move it, "
            "and save again"
        ) from error
    return answers


def save(root: Path = ROOT) -> list[str]:
    """Save every answer of the lessons; one line for each exercise.

    An answer that is untouched in the lesson and in the file from before stays there.
    Raises ValueError for a file or a lesson that cannot be read, and writes nothing.
    """
    file = root / "answers" / "answers.json"
    answers, lines, seen = _read(file), [], set()
    for path, nb in _lessons(root).items():
        exercises = _exercises(path, nb)
        for id in _missing(nb, exercises):
            lines.append(f"{id}: its answer cell is missing in {path.name}")
        for id, exercise in exercises.items():
            if id in seen:
                lines.append(f"{id}: is in {path.name} too, which was left alone")
                continue
            seen.add(id)
            found = {
                "lesson": path.name,
                "kind": exercise.answers[0].cell_type,
                "source": exercise.source,
                "outputs": exercise.answers[-1].get("outputs", []),
                "check_outputs": (exercise.check or {}).get("outputs", []),
            }
            before = answers.get(id)
            words = _state(found)
            if words == UNTOUCHED and before and not is_stub(before["source"]):
                lines.append(f"{id}: untouched in {path.name}; the saved answer stays")
                continue
            if before and before["source"] != found["source"]:
                old = {"source": before["source"]}
                found["earlier"] = [*before.get("earlier", []), old]
            elif before:
                found["earlier"] = before.get("earlier", [])
            answers[id] = found
            lines.append(f"{id}: {words}")
    _write(file, json.dumps({"answers": answers}, indent=1) + "\n")
    copies = [p.name for p in _files(root) if COPY.search(p.stem)]
    return lines + [f"{name}: is a copy, and was left alone" for name in copies]


def restore(root: Path = ROOT) -> list[str]:
    """Put saved answers back where the lessons have none; one line for each exercise.

    An answer that the lesson has already is left there. Raises ValueError as `save`.
    """
    file = root / "answers" / "answers.json"
    answers, lines = _read(file), []
    if not answers:
        raise ValueError(f"{file}: there are no saved answers; save them first")
    lessons = _lessons(root)
    places: dict[str, Exercise] = {}
    for path, nb in lessons.items():
        places = _exercises(path, nb) | places  # where it stands twice, the first
    changed = {}
    for id, answer in answers.items():
        if is_stub(answer["source"]):
            lines.append(f"{id}: {UNTOUCHED}")
        elif id not in places:
            lines.append(f"{id}: no lesson has this exercise any more; kept in {file}")
        elif places[id].source == answer["source"]:
            lines.append(f"{id}: {_state(answer)}, is there already")
        elif not is_stub(places[id].source):
            lines.append(
                f"{id}: {places[id].path.name} has another answer, which was left "
                f"alone; the saved one is in {file}"
            )
        else:
            path, cells, check = places[id]
            kind = answer.get("kind", "code")
            _put(cells[0], kind, answer["source"], answer["outputs"])
            if check is not None:
                _put(check, "code", check.source, answer["check_outputs"])
            changed[path] = lessons[path]
            lines.append(f"{id}: {_state(answer)}, put back into {path.name}")
    back_up(changed, root)
    for path, nb in changed.items():
        _write(path, nbformat.writes(nb) + "\n")
    return lines


def _put(cell: nbformat.NotebookNode, kind: str, source: str, outputs: list) -> None:
    """Write source and outputs into a cell, which becomes one of this kind."""
    cell.cell_type, cell.source = kind, source
    if kind == "code":
        cell.outputs = [nbformat.from_dict(output) for output in outputs]
        cell.setdefault("execution_count", None)
    else:
        cell.pop("outputs", None)
        cell.pop("execution_count", None)


def back_up(paths, root: Path = ROOT) -> Path | None:
    """Copy lessons to a new folder in answers/backup; where to, if there were any."""
    if not paths:
        return None
    folder = root / "answers" / "backup" / time.strftime("%Y-%m-%d-%H%M%S")
    while folder.exists():
        folder = folder.with_name(folder.name + "-more")
    folder.mkdir(parents=True)
    for path in paths:
        shutil.copy2(path, folder / path.name)
    return folder


def update(root: Path = ROOT) -> list[str]:
    """Save the answers, pull the course with git, and put the answers back.

    Lessons that were changed are backed up and set back, so that git can pull. Raises
    ValueError where it cannot; then the lessons are as they were.
    """
    for name in ("MERGE_HEAD", "rebase-merge", "rebase-apply"):
        if (root / _git(root, "rev-parse", "--git-path", name).strip()).exists():
            raise ValueError("git: a merge or rebase is not finished; finish it first")
    lines = save(root)
    _git(root, "fetch")
    try:
        _git(root, "merge-base", "--is-ancestor", "HEAD", "@{upstream}")
    except ValueError as error:
        raise ValueError(
            "git: this clone has commits of its own, or follows no other; merge by "
            f"hand, then restore the answers ({error})"
        ) from error
    how = ("--name-only", "--relative", "--diff-filter=M", "-z")
    changed = _git(root, "diff", *how, "HEAD", "--", "notebooks")
    paths = [root / name for name in changed.split("\0") if name]
    folder = back_up(paths, root)
    kept = f"your lessons as they were: {folder}" if folder else "no lesson was changed"
    try:
        if paths:
            names = (str(path.relative_to(root)) for path in paths)
            _git(root, "checkout", "HEAD", "--", *names)
        pulled = _git(root, "merge", "--ff-only", "@{upstream}")
    except BaseException:  # an interrupt too
        for path in paths:
            shutil.copy2(folder / path.name, path)
        raise
    try:
        return [*lines, kept, pulled.strip().splitlines()[-1], *restore(root)]
    except ValueError as error:
        raise ValueError(f"{error}; {kept}") from error


def _git(root: Path, *words: str) -> str:
    done = subprocess.run(
        ["git", "-C", str(root), *words],
        capture_output=True,
        encoding="utf-8",
        errors="replace",
    )
    if done.returncode:
        said = done.stderr.strip() or done.stdout.strip() or "no"
        raise ValueError(f"git {words[0]}: {said}")
    return done.stdout


def student(root: Path = ROOT) -> list[str]:
    """Write the lessons without their solutions into student/; a line for each."""
    lines = []
    for path, nb in _lessons(root).items():
        kept = [c for c in nb.cells if "solution" not in c.metadata.get("tags", [])]
        removed, nb.cells = len(nb.cells) - len(kept), kept
        for cell in kept:
            cell.source = cell.source.replace(HINT, "")
        exercises = _exercises(path, nb).items()
        answered = [id for id, exercise in exercises if not is_stub(exercise.source)]
        _write(root / "student" / path.name, nbformat.writes(nb) + "\n")
        also = f", but it answers {', '.join(answered)}" if answered else ""
        lines.append(f"student/{path.name}: {removed} solutions left out{also}")
    return lines


def _here() -> Path:
    """The folder whose notebooks/ are meant."""
    folder = Path.cwd()
    folder = folder.parent if folder.name == "notebooks" else folder
    return folder if (folder / "notebooks").is_dir() else ROOT


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m d2lext.course.answers",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    what = {"save": save, "restore": restore, "update": update, "student": student}
    parser.add_argument("what", choices=what)
    try:
        print("\n".join(what[parser.parse_args(argv).what](_here())))
    except KeyboardInterrupt:
        print("answers: stopped", file=sys.stderr)
        return 130
    except (ValueError, OSError) as error:
        print(f"answers: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
