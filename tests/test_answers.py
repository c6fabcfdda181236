import json
import os
import shutil
import subprocess
from pathlib import Path

import nbformat
import pytest

from d2lext.course import answers
from d2lext.course.answers import restore, save, student, update
from d2lext.course.exercises import Verdict

STUB = "def f(x):\n    return ..."
MINE = "def f(x):\n    return x + 1"


def said(key: str) -> nbformat.NotebookNode:
    """What a check cell holds after it has run."""
    data, metadata = Verdict("1.1", key, "because.")._repr_mimebundle_()
    return nbformat.v4.new_output("display_data", data, metadata=metadata)


SAID = said("right")


def lesson(*exercises: str, extra: int = 0) -> nbformat.NotebookNode:
    new = nbformat.v4
    cells = [new.new_markdown_cell("More.", id=f"more-{i}") for i in range(extra)]
    for id in exercises:
        s = id.replace(".", "-")
        tagged = [{"tags": ["answer", f"exercise-{s}"]}, {}, {"tags": ["solution"]}]
        for kind, metadata in zip(("answer", "check", "solution"), tagged, strict=True):
            source = STUB if kind == "answer" else f"{kind}('{id}')"
            cells.append(new.new_code_cell(source, id=f"{kind}-{s}", metadata=metadata))
    return new.new_notebook(cells=cells)


def write(root: Path, name: str, nb: nbformat.NotebookNode) -> Path:
    path = root / "notebooks" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    nbformat.write(nb, path)
    return path


def change(path: Path, what) -> None:
    """Rewrite a lesson after `what` was done to its cells, by their ids."""
    nb = nbformat.read(path, 4)
    what(nb, {cell.id: cell for cell in nb.cells})
    nbformat.write(nb, path)


def cells(path: Path) -> dict[str, nbformat.NotebookNode]:
    found = nbformat.read(path, 4).cells
    return {cell.get("id") or cell.metadata.id: cell for cell in found}


def sources(path: Path) -> list[str]:
    """What the answer cells of a lesson hold."""
    return [c.source for id, c in cells(path).items() if id.startswith("answer-")]


def answered(path: Path, slug="answer-1-1", source=MINE, outputs=(SAID,)) -> bytes:
    """Answer an exercise, rightly; what the lesson holds then."""

    def answer(nb, cells) -> None:
        cells[slug].source = source
        cells[slug.replace("answer", "check")].outputs = [*outputs]

    change(path, answer)
    return path.read_bytes()


@pytest.fixture
def course(tmp_path: Path) -> Path:
    write(tmp_path / "course", "01_a.ipynb", lesson("1.1", "1.2"))
    write(tmp_path / "course", "02_b.ipynb", lesson("2.1"))
    return tmp_path / "course"


@pytest.fixture
def path(course) -> Path:
    """The first lesson, in which exercise 1.1 is answered."""
    answered(course / "notebooks/01_a.ipynb")
    return course / "notebooks/01_a.ipynb"


def split(nb, cells) -> None:
    first, second = cells["answer-1-1"], nbformat.from_dict(cells["answer-1-1"])
    first.source, first.id, second.id = "import math", "0a1b2c3d", "4e5f6a7b"
    nb.cells.insert(1, second)
    cells["check-1-1"].outputs = []


def as_prose(nb, cells) -> None:
    old, new = cells["answer-1-1"], nbformat.v4.new_markdown_cell
    nb.cells[0] = new("It is a flip.", id=old.id, metadata=old.metadata)


def as_colab_saves(nb, cells) -> None:
    nb.nbformat_minor = 0
    for cell in nb.cells:
        cell.metadata.id = cell.pop("id")


@pytest.mark.parametrize(
    ("what", "state", "kind", "source"),
    [
        *((what, "right", "code", MINE) for what in (lambda *_: None, as_colab_saves)),
        (split, "not checked yet", "code", f"import math\n\n{MINE}"),
        (as_prose, "written", "markdown", "It is a flip."),
    ],
)
def test_an_answer_survives_a_new_lesson(course, path, what, state, kind, source):
    """Also in another file, which is backed up before it is written."""
    change(path, what)
    assert save(course) == [f"1.1: {state}", "1.2: untouched", "2.1: untouched"]
    checked = cells(path)["check-1-1"].outputs
    path.unlink()
    assert save(course) == ["2.1: untouched"]
    assert restore(course)[0].startswith("1.1: no lesson has this exercise any more")
    path = write(course, "07_new.ipynb", lesson("1.2", "1.1", extra=3))
    before = path.read_bytes()
    for words in ("put back into 07_new.ipynb", "already in the lesson"):
        assert restore(course)[0] == f"1.1: {state}, {words}"
    (backup,) = (course / "answers/backup").glob("*")
    assert (backup / "07_new.ipynb").read_bytes() == before
    assert cells(path)["answer-1-1"].cell_type == kind
    assert sources(path) == [STUB, source]
    assert cells(path)["check-1-1"].outputs == checked
    nbformat.validate(nbformat.read(path, 4))


def test_nothing_saved_is_lost_by_saving_again(course, path) -> None:
    """The second try does not return anything yet."""
    save(course)
    second = "def f(x):\n    y = x + 2\n    return ..."
    before = answered(path, source=second)
    assert "has another answer, which stays" in restore(course)[0]
    assert path.read_bytes() == before
    for source, words in (
        (second, "1.1: right"),
        (STUB, "1.1: untouched in 01_a.ipynb; kept the saved answer"),
    ):
        answered(path, source=source)
        assert save(course)[0] == words
        kept = json.loads((course / "answers/answers.json").read_text())
        assert kept["answers"]["1.1"]["source"] == second
        assert kept["answers"]["1.1"]["earlier"] == [{"source": MINE}]


@pytest.mark.parametrize("name", ["answers/answers.json", "notebooks/02_b.ipynb"])
@pytest.mark.parametrize("content", ["", '{"answers": {"1.1": {}}}', "\xff"])
def test_a_broken_file_is_named_and_nothing_written(course, name, content) -> None:
    save(course)
    lesson = answered(course / "notebooks/01_a.ipynb", source=STUB)
    (course / name).write_text(content, encoding="latin-1")
    before = (course / "answers/answers.json").read_bytes()
    for function in (save, restore):
        words = f"{Path(name).name}: is not a (file of answers|notebook)"
        with pytest.raises(ValueError, match=words):
            function(course)
    assert (course / "answers/answers.json").read_bytes() == before
    assert (course / "notebooks/01_a.ipynb").read_bytes() == lesson


def test_a_killed_write_leaves_the_old_file(course, path, monkeypatch) -> None:
    save(course)
    file = course / "answers/answers.json"
    before = file.read_bytes()
    answered(path, source="def f(x):\n    return 3")

    def killed(*args) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "replace", killed)
    with pytest.raises(KeyboardInterrupt):
        save(course)
    assert file.read_bytes() == before


@pytest.mark.parametrize(
    ("source", "outputs", "state"),
    [
        (STUB, [], "untouched"),
        ("", [], "untouched"),
        (answers.TEXT_STUBS[0], [], "untouched"),
        ("def f(x):\n    # my thoughts\n    return ...", [], "not checked yet"),
        ("def f(x):\n    retur", [], "not checked yet"),
        (f"import math\n{STUB}", [], "not checked yet"),
        ("def f(x):\n    y = 2 * x\n    return ...", [], "not checked yet"),
        (MINE, [said("same")], "wrong"),
        (MINE, [said("same"), said("right")], "right"),
        (MINE, [said("unanswered")], "not checked yet"),
        (MINE, [nbformat.v4.new_output("stream", text="right")], "not checked yet"),
    ],
)
def test_the_state_of_an_answer(course, path, source, outputs, state) -> None:
    answered(path, source=source, outputs=outputs)
    assert save(course)[0] == f"1.1: {state}"


def git(folder: Path, *words: str) -> None:
    name = ["-c", "user.name=a", "-c", "user.email=a@example.org"]
    subprocess.run(["git", "-C", str(folder), *name, *words], check=True)


def cloned(course: Path, repository: Path) -> Path:
    """A learner's clone of the course, which has a newer version."""
    folder = repository.with_name(f"{repository.name}-clone")
    git(repository, "init", "-q")
    git(repository, "add", ".")
    git(repository, "commit", "-q", "-m", "old")
    git(repository, "clone", "-q", str(repository), str(folder))
    write(course, "01_a.ipynb", lesson("1.2", "1.1", extra=2))
    git(repository, "commit", "-q", "-a", "-m", "new")
    return folder / course.relative_to(repository)


@pytest.mark.parametrize("alone", [True, False])
def test_update_pulls_and_keeps_the_answers(course, alone) -> None:
    """Also of a course that lies in a folder of its repository."""
    clone = cloned(course, course if alone else course.parent)
    path = clone / "notebooks/01_a.ipynb"
    answered(path)
    assert update(clone)[-3] == "1.1: right, put back into 01_a.ipynb"
    assert sources(path) == [STUB, MINE]
    assert list((clone / "answers/backup").glob("*/01_a.ipynb"))


def own_commit(clone: Path, monkeypatch) -> None:
    git(clone, "commit", "-q", "--allow-empty", "-m", "mine")


def unfinished_merge(clone: Path, monkeypatch) -> None:
    own_commit(clone, monkeypatch)
    git(clone, "fetch", "-q")
    git(clone, "merge", "-q", "--no-ff", "--no-commit", "origin/HEAD")


def interrupt(clone: Path, monkeypatch) -> None:
    def interrupted(root, *words, git=answers._git):
        if "--ff-only" in words:
            raise KeyboardInterrupt("at the merge")
        return git(root, *words)

    monkeypatch.setattr(answers, "_git", interrupted)


@pytest.mark.parametrize(
    ("state", "words"),
    [
        (lambda clone, _: git(clone, "remote", "set-url", "origin", "no"), "git fetch"),
        (own_commit, "merge by hand"),
        (unfinished_merge, "not concluded your merge"),
        (interrupt, "at the merge"),
    ],
)
def test_an_update_that_cannot_be_touches_nothing(course, monkeypatch, state, words):
    clone = cloned(course, course)
    state(clone, monkeypatch)
    path = clone / "notebooks/01_a.ipynb"
    before = answered(path), answers._git(clone, "status", "-s", "-uno")
    with pytest.raises((ValueError, KeyboardInterrupt), match=words):
        update(clone)
    after = path.read_bytes(), answers._git(clone, "status", "-s", "-uno")
    assert after == before


def test_student_copies_have_no_solutions(course) -> None:
    assert student(course)[0] == "student/01_a.ipynb: 2 solutions left out"
    ids = ["answer-1-1", "check-1-1", "answer-1-2", "check-1-2"]
    assert list(cells(course / "student/01_a.ipynb")) == ids
    answered(course / "notebooks/01_a.ipynb")
    assert student(course)[0].endswith("2 solutions left out, but it answers 1.1")


def test_the_lessons_exercises_are_found_and_untouched(tmp_path) -> None:
    """Their student copies do not speak of solutions, which those lack."""
    here, skipped = answers.ROOT / "notebooks", shutil.ignore_patterns(".*")
    shutil.copytree(here, tmp_path / "notebooks", ignore=skipped)
    lines = save(tmp_path)
    assert len(lines) == 2 * len({line.removeprefix("zh/") for line in lines}) > 40
    assert all(line.endswith(": untouched") for line in lines)
    student(tmp_path)
    for path in (tmp_path / "student").rglob("*.ipynb"):
        words = path.read_text(encoding="utf-8")
        assert "olded cell" not in words and "折叠的单元格" not in words


def test_each_language_keeps_its_answer_or_takes_the_other_ones(course, path) -> None:
    """1.1 is answered in both, 1.2 in Chinese alone, 2.1 in English alone."""
    chinese = write(course, "zh/01_a.ipynb", lesson("1.1", "1.2"))
    english = course / "notebooks/02_b.ipynb"
    other = write(course, "zh/02_b.ipynb", lesson("2.1"))
    a, b = (f"def {name}():\n    return 3" for name in "ab")
    answered(chinese, source=a)
    answered(chinese, "answer-1-2", b)
    answered(english, "answer-2-1")
    assert "zh/1.1: right" in save(course)
    for name in ("01_a", "zh/01_a"):
        write(course, f"{name}.ipynb", lesson("1.1", "1.2"))
    assert "zh/1.1: right, put back into zh/01_a.ipynb" in restore(course)
    assert (sources(path), sources(chinese)) == ([MINE, b], [a, b])
    assert sources(other) == [MINE]
    (backup,) = (course / "answers/backup").iterdir()
    assert {p.name for p in backup.rglob("*.ipynb")} == {"01_a.ipynb", "02_b.ipynb"}
    student(course)
    assert (course / "student/zh/01_a.ipynb").exists()


def test_a_copy_of_a_lesson_does_not_replace_an_answer(course, path) -> None:
    other = write(course, "01_a-Copy1.ipynb", nbformat.read(path, 4))
    answered(other, source="def f(x):\n    return 0")
    assert "1.1: is also in 01_a-Copy1.ipynb, which was ignored" in save(course)
    write(course, "01_a.ipynb", lesson("1.1", "1.2"))
    assert restore(course)[0] == "1.1: right, put back into 01_a.ipynb"
    assert sources(path) == [MINE, STUB]


def test_an_answer_cell_that_is_gone_is_named(course, path) -> None:
    change(path, lambda nb, cells: nb.cells.remove(cells["answer-1-1"]))
    assert save(course)[0] == "1.1: its answer cell is missing in 01_a.ipynb"


def test_the_lessons_of_the_folder_that_one_is_in(course, monkeypatch, capsys) -> None:
    zh = write(course, "../../zh/zh/01_a.ipynb", lesson("2.1")).parents[1].resolve()
    for folder in (course, course / "notebooks", zh, zh / "zh"):
        monkeypatch.chdir(folder)
        assert answers.main(["save"]) == 0
        assert "2.1: untouched" in capsys.readouterr().out
    assert all((root / "answers/answers.json").exists() for root in (course, zh))
    assert answers.main(["update"]) == 1
    err = capsys.readouterr().err
    assert "no clone of the course" in err and str(zh / "answers") in err
    write(course, "../../zh/01_a.ipynb", lesson("2.1"))
    assert save(zh) == ["2.1: untouched", "zh/2.1: untouched"]
    monkeypatch.chdir(course / "answers")
    assert answers._here() == answers.ROOT
    monkeypatch.setattr(answers, "ROOT", course.parent / "site-packages")
    assert answers.main(["save"]) == 1
    assert "has no lessons; change to the folder of" in capsys.readouterr().err


def test_a_course_that_cannot_be_written_to(course, path, monkeypatch, capsys) -> None:
    """A file stands where the folder should be made, which stops root, too."""
    monkeypatch.chdir(course)
    (course / "answers").touch()
    for what in ("save", "update"):
        assert answers.main([what]) == 1
        err = capsys.readouterr().err
        assert err.startswith("answers: ") and err.count("\n") == 1
        assert "set D2LEXT_ANSWERS to another folder" in err
    monkeypatch.setenv("D2LEXT_ANSWERS", str(course / "mine"))
    assert answers.main(["restore"]) == 1
    assert "has no saved answers; save them first" in capsys.readouterr().err
    assert answers.main(["save"]) == 0
    write(course, "01_a.ipynb", lesson("1.2", "1.1"))
    assert answers.main(["restore"]) == 0
    assert sources(path) == [STUB, MINE]
