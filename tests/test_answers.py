import json
import os
import subprocess
from pathlib import Path

import nbformat
import pytest

from d2lext.course import answers
from d2lext.course.answers import is_stub, restore, save, student, update
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


def cell(path: Path, slug: str) -> nbformat.NotebookNode:
    cells = nbformat.read(path, 4).cells
    return next(c for c in cells if slug in (c.get("id"), c.metadata.get("id")))


def answered(path: Path, slug: str = "answer-1-1", source: str = MINE) -> bytes:
    """Answer an exercise rightly; what the lesson holds then."""

    def answer(nb, cells) -> None:
        cells[slug].source = source
        cells[slug.replace("answer", "check")].outputs = [SAID]

    change(path, answer)
    return path.read_bytes()


def kept(root: Path) -> dict:
    """What answers.json has of exercise 1.1."""
    return json.loads((root / "answers/answers.json").read_text())["answers"]["1.1"]


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
    change(path, what)
    assert save(course) == [f"1.1: {state}", "1.2: untouched", "2.1: untouched"]
    checked = cell(path, "check-1-1").outputs
    write(course, "01_a.ipynb", lesson("1.2", "1.1", extra=3))
    assert restore(course)[0] == f"1.1: {state}, put back into 01_a.ipynb"
    answer = cell(path, "answer-1-1")
    assert (answer.cell_type, answer.source) == (kind, source)
    assert cell(path, "check-1-1").outputs == checked
    assert cell(path, "answer-1-2").source == STUB
    assert cell(path, "more-2").source == "More."
    nbformat.validate(nbformat.read(path, 4))


def test_an_answer_follows_its_exercise_to_another_lesson(course, path) -> None:
    """It stays in the file if no lesson has the exercise any more."""
    save(course)
    write(course, "01_a.ipynb", lesson("1.2"))
    assert "no lesson has this exercise any more" in restore(course)[0]
    save(course)
    assert kept(course)["source"] == MINE
    path = write(course, "07_new_name.ipynb", lesson("7.1", "1.1"))
    restore(course)
    assert cell(path, "answer-1-1").source == MINE


def test_nothing_saved_is_lost_by_saving_again(course, path) -> None:
    save(course)
    answered(path, source=STUB)
    assert save(course)[0] == "1.1: untouched in 01_a.ipynb; kept the saved answer"
    answered(path, source="def f(x):\n    return 3")
    for _ in range(2):
        save(course)
        assert kept(course)["source"].endswith("3")


def test_lessons_are_backed_up_before_they_are_written(course, path) -> None:
    save(course)
    before = answered(path, source=STUB)
    restore(course)
    (backup,) = (course / "answers/backup").glob("*/01_a.ipynb")
    assert backup.read_bytes() == before
    restore(course)  # nothing to do, so nothing more to back up
    assert len(list((course / "answers/backup").iterdir())) == 1


@pytest.mark.parametrize(
    "content",
    [
        *("", "{", "[]", '{"answers": {"1.1": {}}}'),
        '{"answers": {"1.1": {"source": 3, "outputs": [], "check_outputs": []}}}',
    ],
)
def test_a_file_that_holds_no_answers(course, content) -> None:
    file = course / "answers/answers.json"
    file.parent.mkdir()
    file.write_text(content)
    for function in (save, restore):
        with pytest.raises(ValueError, match="is not a file of answers"):
            function(course)
    assert file.read_text() == content


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
    ("source", "stub"),
    [
        (STUB, True),
        ("def f(x):\n    return ...\n", True),
        ("", True),
        (answers.TEXT_STUBS[0], True),
        ("def f(x):\n    # my thoughts\n    return ...", False),
        ("def f(x):\n    columns = x.shape[1]\n    return ...", False),
        (MINE, False),
        ("def f(x):\n    return", False),
        ("def f(x):\n    retur", False),
        (f"import math\n{STUB}", False),
        ("def f(x):\n    if x:\n        return 1\n    return ...", False),
    ],
)
def test_what_counts_as_untouched(source, stub) -> None:
    assert is_stub(source) == stub


@pytest.mark.parametrize(
    ("outputs", "state"),
    [
        ([said("same")], "wrong"),
        ([said("slow")], "wrong"),
        ([said("right")], "right"),
        ([said("same"), said("right")], "right"),
        ([said("unanswered")], "not checked yet"),
        ([nbformat.v4.new_output("stream", text="1.1: right: ")], "not checked yet"),
        ([], "not checked yet"),
    ],
)
def test_what_the_check_said_last(course, path, outputs, state) -> None:
    change(path, lambda nb, cells: cells["check-1-1"].update(outputs=outputs))
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


def interrupt(clone: Path, monkeypatch) -> None:
    real = answers._git

    def interrupted(root, *words):
        if "--ff-only" in words:
            raise KeyboardInterrupt("at the merge")
        return real(root, *words)

    monkeypatch.setattr(answers, "_git", interrupted)


@pytest.fixture
def clone(course) -> Path:
    return cloned(course, course)


@pytest.mark.parametrize("alone", [True, False])
def test_update_pulls_and_keeps_the_answers(course, alone) -> None:
    """Also of a course that lies in a folder of its repository."""
    clone = cloned(course, course if alone else course.parent)
    path = clone / "notebooks/01_a.ipynb"
    answered(path)
    assert update(clone)[-3] == "1.1: right, put back into 01_a.ipynb"
    assert cell(path, "answer-1-1").source == MINE
    assert cell(path, "more-1").source == "More."
    assert list((clone / "answers/backup").glob("*/01_a.ipynb"))


def no_remote(clone: Path, monkeypatch) -> None:
    git(clone, "remote", "set-url", "origin", str(clone / "nowhere"))


def own_commit(clone: Path, monkeypatch) -> None:
    (clone / "mine.txt").touch()
    git(clone, "add", ".")
    git(clone, "commit", "-q", "-m", "mine")


def unfinished_merge(clone: Path, monkeypatch) -> None:
    own_commit(clone, monkeypatch)
    git(clone, "fetch", "-q")
    git(clone, "merge", "-q", "--no-ff", "--no-commit", "origin/HEAD")


@pytest.mark.parametrize(
    ("state", "words"),
    [
        (no_remote, "git fetch: "),
        (own_commit, "merge by hand"),
        (unfinished_merge, "not concluded your merge"),
        (interrupt, "at the merge"),
    ],
)
def test_an_update_that_cannot_be_touches_nothing(clone, monkeypatch, state, words):
    state(clone, monkeypatch)
    path = clone / "notebooks/01_a.ipynb"
    before = answered(path), answers._git(clone, "status", "-s", "-uno")
    with pytest.raises((ValueError, KeyboardInterrupt), match=words):
        update(clone)
    after = path.read_bytes(), answers._git(clone, "status", "-s", "-uno")
    assert after == before


def test_student_copies_have_no_solutions(course) -> None:
    assert student(course)[0] == "student/01_a.ipynb: 2 solutions left out"
    ids = [c.id for c in nbformat.read(course / "student/01_a.ipynb", 4).cells]
    assert ids == ["answer-1-1", "check-1-1", "answer-1-2", "check-1-2"]
    path = course / "notebooks/01_a.ipynb"
    assert cell(path, "solution-1-1")
    answered(path)
    read = nbformat.v4.new_markdown_cell(
        "Read. The folded cell below it holds a solution."
    )
    change(path, lambda nb, cells: nb.cells.insert(0, read))
    assert student(course)[0].endswith("2 solutions left out, but it answers 1.1")
    assert nbformat.read(course / "student/01_a.ipynb", 4).cells[0].source == "Read."


def test_the_lessons_exercises_are_found_and_untouched(tmp_path) -> None:
    for path in (answers.ROOT / "notebooks").glob("*.ipynb"):
        write(tmp_path, path.name, nbformat.read(path, 4))
    lines = save(tmp_path)
    assert len(lines) >= 7
    assert all(line.endswith(": untouched") for line in lines)
    student(tmp_path)
    for path in (tmp_path / "student").glob("*.ipynb"):
        assert "olded cell" not in path.read_text(encoding="utf-8")


def test_each_language_keeps_its_answer_or_takes_the_other_ones(course, path) -> None:
    """1.1 is answered in both, 1.2 in Chinese alone, 2.1 in English alone."""
    chinese = write(course, "zh/01_a.ipynb", lesson("1.1", "1.2"))
    write(course, "zh/02_b.ipynb", lesson("2.1"))
    answered(chinese, source="def a(): return 'zh'")
    answered(chinese, "answer-1-2", "def b(): return 'zh'")
    answered(course / "notebooks/02_b.ipynb", "answer-2-1")
    assert "zh/1.1: right" in save(course) and kept(course)["source"] == MINE
    for name in ("01_a", "zh/01_a"):
        write(course, f"{name}.ipynb", lesson("1.1", "1.2"))
    lines = restore(course)
    assert "zh/1.1: right, put back into zh/01_a.ipynb" in lines
    assert cell(path, "answer-1-1").source == MINE
    assert cell(chinese, "answer-1-1").source == "def a(): return 'zh'"
    assert cell(path, "answer-1-2").source == "def b(): return 'zh'"
    other = course / "notebooks/zh/02_b.ipynb"
    assert cell(other, "answer-2-1").source == MINE
    (backup,) = (course / "answers/backup").iterdir()
    assert {p.name for p in backup.rglob("*.ipynb")} == {"01_a.ipynb", "02_b.ipynb"}
    student(course)
    assert cell(course / "student/zh/01_a.ipynb", "check-1-1")


def test_work_in_progress_is_not_put_over(course, path) -> None:
    """A first answer was saved; the second try does not return anything yet."""
    save(course)
    second = "def f(x):\n    y = x + 2\n    return ..."
    before = answered(path, source=second)
    assert "has another answer, which stays" in restore(course)[0]
    assert path.read_bytes() == before
    save(course)
    assert kept(course)["source"] == second


@pytest.mark.parametrize("name", ["01_a-Copy1.ipynb", "01_a_old.ipynb"])
def test_a_copy_of_a_lesson_does_not_replace_an_answer(course, path, name) -> None:
    other = write(course, name, nbformat.read(path, 4))
    answered(other, source="def f(x):\n    return 0")
    assert f"1.1: is also in {name}, which was ignored" in save(course)
    write(course, "01_a.ipynb", lesson("1.1", "1.2"))
    assert restore(course)[0] == "1.1: right, put back into 01_a.ipynb"
    assert cell(path, "answer-1-1").source == MINE


def test_an_answer_cell_that_is_gone_is_named(course, path) -> None:
    change(path, lambda nb, cells: nb.cells.remove(cells["answer-1-1"]))
    assert save(course)[0] == "1.1: its answer cell is missing in 01_a.ipynb"


@pytest.mark.parametrize(
    "content", ["{}", "[]", '{"nbformat": 4}', '{"cells": [', "\xff"]
)
def test_a_notebook_that_is_none_is_named(course, path, content) -> None:
    path.with_name("02_b.ipynb").write_text(content, encoding="latin-1")
    with pytest.raises(ValueError, match=r"02_b\.ipynb: is not a notebook"):
        save(course)
    assert not (course / "answers").exists()


def test_the_lessons_of_the_folder_that_one_is_in(course, monkeypatch, capsys) -> None:
    zh = write(course, "../../zh/zh/01_a.ipynb", lesson("2.1")).parents[1].resolve()
    for folder in (course, course / "notebooks", zh, zh / "zh"):
        monkeypatch.chdir(folder)
        assert answers.main(["save"]) == 0
        assert "2.1: untouched" in capsys.readouterr().out
    assert all((root / "answers/answers.json").exists() for root in (course, zh))
    write(course, "../../zh/01_a.ipynb", lesson("2.1"))
    assert save(zh) == ["2.1: untouched", "zh/2.1: untouched"]
    monkeypatch.chdir(course / "answers")
    assert answers._here() == answers.ROOT
    monkeypatch.setattr(answers, "ROOT", course.parent / "site-packages")
    assert answers.main(["save"]) == 1
    assert "has no lessons; change to the folder of" in capsys.readouterr().err


def test_a_copy_of_the_lessons_elsewhere(course, monkeypatch, capsys) -> None:
    """Without a clone, answers are moved to the newest lessons by hand."""
    copy = course / "notebooks"
    copy = copy.rename(course / "my copy 图像")
    answered(copy / "01_a.ipynb")
    monkeypatch.chdir(copy)
    assert answers.main(["update"]) == 1
    err = capsys.readouterr().err
    assert "no clone of the course" in err and str(copy / "answers") in err
    path = write(course, "01_a.ipynb", lesson("1.2", "1.1"))
    monkeypatch.chdir(course)
    monkeypatch.setenv("D2LEXT_ANSWERS", str(copy / "answers"))
    assert answers.main(["restore"]) == 0
    assert cell(path, "answer-1-1").source == MINE
    assert not (course / "answers").exists()


def test_a_course_that_cannot_be_written_to(course, monkeypatch, capsys) -> None:
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
    assert (course / "mine/answers.json").exists()
