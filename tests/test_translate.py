"""The Chinese edition: in step with the English one, and nothing of it lost."""

import json
import shutil
import string
from pathlib import Path

import pytest

import d2lext as d2l
from d2lext.course import exercises, language
from tools import translate
from tools.translate import Message, catalog, exported, imported, po, updated

ROOT = Path(__file__).resolve().parent.parent
AWKWARD = 'A "quoted" $\\lambda$, 50% of it\n\n- `{x}`\\n\n  100 %(d)s 图像'


@pytest.fixture
def course(tmp_path: Path) -> Path:
    """A course of two lessons, the first of them in Chinese."""
    site = ("tools/site/conf.py", "tools/site/alt.json")
    for path in ("README.md", "data/README.md", "pyproject.toml", *site):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / path, tmp_path / path)
    exercises = "d2lext/course/exercises"
    shutil.copytree(ROOT / exercises, tmp_path / exercises)
    said = {"text/plain": ["1.1: not answered yet."]}
    check = {"data": said, "metadata": {"d2lext": {"verdict": "unanswered"}}}
    links = "See [two](02_crop.ipynb#a), [data](../data/README.md), [below](#end), "
    links += "[code](../d2lext/flip.py), [book](https://d2l.ai)."
    lesson(tmp_path, "01_flip", ["# 1 Flips", translate.TEXT_STUBS[0], links], [check])
    lesson(tmp_path, "02_crop", ["# 2 Crops"])
    translated(tmp_path, "01_flip", "图像翻转")
    return tmp_path


def lesson(course: Path, name: str, texts: list[str], outputs: list | None = None):
    cells = [
        {"cell_type": "markdown", "id": f"text-{i}", "metadata": {}, "source": [text]}
        for i, text in enumerate(texts)
    ]
    code = {"cell_type": "code", "id": "import", "metadata": {}, "execution_count": 1}
    cells += [code | {"outputs": outputs or [], "source": ["import d2lext as d2l"]}]
    (course / "notebooks").mkdir(exist_ok=True)
    path = course / f"notebooks/{name}.ipynb"
    path.write_text(json.dumps({"cells": cells, "nbformat": 4}), encoding="utf-8")


def translated(course: Path, name: str, title: str | None = None) -> None:
    """Translate a file: its English behind a Chinese title."""
    english = translate.sources(course)[name]
    messages = {
        context: Message(text, title if title and i == 0 else f"中文 {text}")
        for i, (context, text) in enumerate(english.items())
    }
    path = course / f"translations/zh/{name}.po"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(po(messages), encoding="utf-8")


def cells(course: Path, name: str) -> list[dict]:
    path = course / f"notebooks/{name}.ipynb"
    return json.loads(path.read_text(encoding="utf-8"))["cells"]


def test_a_file_keeps_every_sign(tmp_path: Path) -> None:
    messages = {
        "a": Message(AWKWARD, AWKWARD[::-1]),
        "b": Message("one", "", ""),
        "c": Message("new\n\nwords", "旧的", AWKWARD),
    }
    (tmp_path / "x.po").write_text(po(messages), encoding="utf-8")
    assert catalog(tmp_path / "x.po") == messages
    assert imported(messages, exported(messages)) == {
        "a": messages["a"],
        "b": messages["b"],
        "c": messages["c"],  # nobody has looked it through
    }
    kept = exported(messages).replace("@@ c (changed)", "@@ c")
    assert imported(messages, kept)["c"] == Message("new\n\nwords", "旧的")


def test_a_changed_message_is_fuzzy_until_it_is_looked_through() -> None:
    old = {"a": Message("one", "一"), "b": Message("two", "二"), "c": Message("three")}
    new = updated(old, {"a": "One", "moved": "two", "c": "Three", "d": "four"})
    assert new == {
        "a": Message("One", "一", "one"),
        "moved": Message("two", "二"),
        "c": Message("Three"),
        "d": Message("four"),
    }
    again = updated(new, {"a": "ONE"})
    assert again == {"a": Message("ONE", "一", "one")}
    assert updated(again, {"a": "one"})["a"].done is False  # somebody must say so


def test_an_edited_file_of_other_words_is_refused() -> None:
    messages = {"a": Message("one"), "b": Message("two")}
    text = exported(messages)
    done = imported(messages, text.replace("two\n@@ zh\n", "two\n@@ zh\n二\n"))
    assert done["b"] == Message("two", "二")
    for old, new in (("one", "won"), ("@@ a", "@@ x"), ("@@ zh", "@@ de")):
        with pytest.raises(ValueError):
            imported(messages, text.replace(old, new, 1))


def test_a_chinese_lesson(course: Path, capsys) -> None:
    """Code as it is but for one line; words, links and verdicts Chinese."""
    translated(course, "exercises")
    assert translate.main([], course) == 0
    title, stub, links, code = cells(course, "zh/01_flip")
    assert title["source"] == ["图像翻转"]
    assert stub["source"] == [translate.TEXT_STUBS[1]]
    assert links["source"] == [
        "中文 See [two](02_crop.ipynb#a), [data](../../data/README.zh.md), "
        "[below](#end), [code](../../d2lext/flip.py), [book](https://d2l.ai)."
    ]
    english = cells(course, "01_flip")[-1]
    assert "".join(code["source"]) == (
        "".join(english["source"]) + '\nd2l.language("zh")'
    )
    assert code["outputs"][0]["data"] == {
        "text/plain": ["中文 1.1: 中文 not answered yet."]
    }
    assert cells(course, "zh/02_crop")[0]["source"] == ["# 2 Crops"]  # not translated


def test_check_fails_for_what_is_missing_or_stale(course: Path, capsys) -> None:
    for name in translate.sources(course):
        translated(course, name)
    assert translate.main(["--check"], course) == 1  # nothing written yet
    assert translate.main([], course) == 0
    assert translate.main(["--check"], course) == 0
    switch = (course / "README.zh.md").read_text(encoding="utf-8").splitlines()[0]
    assert switch == "[English](README.md)"
    lesson(course, "02_crop", ["# 2 More crops"])
    capsys.readouterr()
    assert translate.main(["--check"], course) == 1
    said = capsys.readouterr()
    assert "notebooks/zh/02_crop.ipynb is stale" in said.out
    assert said.err == "translate: 02_crop: text-0: changed\n"
    assert translate.main([], course) == 0  # English in its place
    assert cells(course, "zh/02_crop")[0]["source"] == ["# 2 More crops"]


def test_checks_speak_the_language_of_the_lesson(monkeypatch, tmp_path) -> None:
    """Chinese where it is translated, English elsewhere, and afterwards again."""
    table = {"{}: {}": "{}：{}", "not answered yet.": "还没有作答。"}
    table |= {"right: {}": "正确：{}", "a tensor of {}": "{} 张量"}
    table |= {exercises.ANY["type"]: "应返回{wanted}，得到的是{got}。"}
    (tmp_path / "zh.json").write_text(json.dumps(table), encoding="utf-8")
    monkeypatch.setattr(language, "__file__", str(tmp_path / "language.py"))
    answers = (..., lambda X: X.flip(3), lambda X: X.flip(3).double())
    try:
        d2l.language("zh")
        unanswered, right, wrong = (str(exercises.verdict("1.1", a)) for a in answers)
    finally:
        d2l.language("en")
    assert unanswered == "1.1：还没有作答。"
    assert right.startswith("1.1：正确：an index")  # which has no Chinese here
    assert wrong == "1.1：not yet: 应返回float32 张量，得到的是float64 张量。"
    assert str(exercises.verdict("1.1", ...)) == "1.1: not answered yet."
    with pytest.raises(FileNotFoundError, match=r"de\.json"):
        d2l.language("de")


def test_chinese_words_have_the_same_fields() -> None:
    def fields(text: str) -> set:
        return {field[1:3] for field in string.Formatter().parse(text) if field[1]}

    for message in catalog(ROOT / "translations/zh/exercises.po").values():
        if message.done:
            assert fields(message.chinese) == fields(message.english), message


def test_the_course_is_translated(capsys) -> None:
    assert translate.main(["--check"]) == 0, capsys.readouterr()
