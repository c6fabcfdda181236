"""Keep a learner's answers through an update of the lessons, and make student copies.

    python -m d2lext.answers save       every answer, to answers/answers.json
    python -m d2lext.answers restore    back into the lessons
    python -m d2lext.answers update     save, pull with git, restore
    python -m d2lext.answers student    the lessons without solutions, in student/

An answer belongs to its exercise, whatever the lesson is called and wherever in it the
exercise stands. Lessons are copied to answers/backup/ before they are written to. What
is replaced in answers.json stays there as an earlier answer.
"""

import argparse
import ast
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import nbformat

ROOT = Path(__file__).resolve().parent.parent
UNTOUCHED, WRONG, RIGHT = "untouched", "wrong", "right"
TEXT_STUB = "*Double-click here, and write your answer.*"


def _write(path: Path, text: str) -> None:
    """Under another name first: being killed here leaves the old file whole."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + ".part")
    part.write_text(text, encoding="utf-8")
    os.replace(part, path)


def _lessons(root: Path) -> dict[Path, nbformat.NotebookNode]:
    lessons = {}
    for path in sorted((root / "notebooks").glob("*.ipynb")):
        try:
            lessons[path] = nbformat.read(path, as_version=4)
        except (nbformat.reader.NotJSONError, OSError, KeyError) as error:
            raise ValueError(
                f"{path.name}: cannot be read as a notebook ({type(error).__name__}); "
                f"get it back with: git checkout -- notebooks/{path.name}"
            ) from error
    return lessons


def _cells(nb: nbformat.NotebookNode) -> dict[str, dict[str, nbformat.NotebookNode]]:
    """The answer cell, and the check cell if there is one, of each exercise."""
    by_id = {cell.get("id"): cell for cell in nb.cells}
    found = {}
    for name, cell in by_id.items():
        if "answer" in cell.metadata.get("tags", []):
            number = name.removeprefix("answer-")
            check = by_id.get(f"check-{number}")
            found[number.replace("-", ".")] = {"answer": cell, "check": check}
    return found


def is_stub(source: str) -> bool:
    """Whether an answer is as the lesson has it.

    That is a function that returns `...`, or the text that asks for one.
    """
    if source.strip() == TEXT_STUB:
        return True
    try:
        body = ast.parse(source).body
    except SyntaxError:
        return False  # somebody's work
    nodes = ast.walk(ast.Module(body, []))
    returns = [n.value for n in nodes if isinstance(n, ast.Return)]
    dots = [r for r in returns if isinstance(r, ast.Constant) and r.value is ...]
    return len(body) == 1 and len(returns) == 1 and returns == dots


def _state(answer: dict) -> str:
    """What the check said when it was last run; untouched and right are certain."""
    if is_stub(answer["source"]):
        return UNTOUCHED
    if answer.get("kind") == "markdown":
        return "written"
    text = "".join(output.get("text", "") for output in answer["check_outputs"])
    if ": right: " in text:
        return RIGHT
    return WRONG if ": not yet: " in text else "not checked yet"


def _read(file: Path) -> dict[str, dict]:
    if not file.exists():
        return {}
    try:
        answers = json.loads(file.read_text(encoding="utf-8"))["answers"]
        for answer in answers.values():
            answer["source"], answer["outputs"], answer["check_outputs"]
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
    answers, lines = _read(file), []
    for path, nb in _lessons(root).items():
        for id, cells in _cells(nb).items():
            found = {
                "lesson": path.name,
                "kind": cells["answer"].cell_type,
                "source": cells["answer"].source,
                "outputs": cells["answer"].get("outputs", []),
                "check_outputs": (cells["check"] or {}).get("outputs", []),
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
    return lines


def restore(root: Path = ROOT) -> list[str]:
    """Put saved answers back where the lessons have none; one line for each exercise.

    An answer that the lesson has already is left there. Raises ValueError as `save`.
    """
    file = root / "answers" / "answers.json"
    answers, lines = _read(file), []
    if not answers:
        raise ValueError(f"{file}: there are no saved answers; save them first")
    lessons = _lessons(root)
    places = {id: (p, c) for p, nb in lessons.items() for id, c in _cells(nb).items()}
    changed = {}
    for id, answer in answers.items():
        if is_stub(answer["source"]):
            lines.append(f"{id}: {UNTOUCHED}")
        elif id not in places:
            lines.append(f"{id}: no lesson has this exercise any more; kept in {file}")
        elif places[id][1]["answer"].source == answer["source"]:
            lines.append(f"{id}: {_state(answer)}, is there already")
        elif not is_stub(places[id][1]["answer"].source):
            lines.append(
                f"{id}: {places[id][0].name} has another answer, which was left alone; "
                f"the saved one is in {file}"
            )
        else:
            path, cells = places[id]
            _put(cells["answer"], answer["source"], answer["outputs"])
            if cells["check"] is not None:
                _put(cells["check"], cells["check"].source, answer["check_outputs"])
            changed[path] = lessons[path]
            lines.append(f"{id}: {_state(answer)}, put back into {path.name}")
    back_up(changed, root)
    for path, nb in changed.items():
        _write(path, nbformat.writes(nb) + "\n")
    return lines


def _put(cell: nbformat.NotebookNode, source: str, outputs: list) -> None:
    cell.source = source
    if cell.cell_type == "code":
        cell.outputs = [nbformat.from_dict(output) for output in outputs]


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
    ValueError where git cannot; the answers are back in the lessons then, too, and the
    error says where the backup is.
    """
    lines = save(root)
    changed = _git(root, "diff", "--name-only", "-z", "HEAD", "--", "notebooks")
    paths = [root / name for name in changed.split("\0") if name]
    paths = [path for path in paths if path.exists()]
    folder = back_up(paths, root)
    if folder:
        lines.append(f"your lessons as they were: {folder}")
        _git(root, "checkout", "HEAD", "--", *(str(p.relative_to(root)) for p in paths))
    try:
        lines.append(_git(root, "pull", "--ff-only").strip().splitlines()[-1])
    except ValueError as error:
        restore(root)
        kept = f"; your lessons as they were: {folder}" if folder else ""
        raise ValueError(f"{error}; your answers are in the lessons{kept}") from error
    return lines + restore(root)


def _git(root: Path, *words: str) -> str:
    done = subprocess.run(
        ["git", "-C", str(root), *words], capture_output=True, text=True
    )
    if done.returncode:
        raise ValueError(
            f"git {words[0]}: {done.stderr.strip() or done.stdout.strip()}"
        )
    return done.stdout


def student(root: Path = ROOT) -> list[str]:
    """Write the lessons without their solutions into student/."""
    lines = []
    for path, nb in _lessons(root).items():
        kept = [c for c in nb.cells if "solution" not in c.metadata.get("tags", [])]
        removed, nb.cells = len(nb.cells) - len(kept), kept
        _write(root / "student" / path.name, nbformat.writes(nb) + "\n")
        lines.append(f"student/{path.name}: {removed} solutions left out")
    return lines


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m d2lext.answers",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    what = {"save": save, "restore": restore, "update": update, "student": student}
    parser.add_argument("what", choices=what)
    try:
        print("\n".join(what[parser.parse_args(argv).what]()))
    except (ValueError, OSError) as error:
        print(f"answers: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
