"""The Chinese edition: in step with the English one, and nothing of it lost."""

import json
import re
import string
from pathlib import Path

import pytest

import d2lext as d2l
from d2lext.course import exercises, language
from tests.lessons import LESSONS, ROOT, copy_course
from tools import translate
from tools.translate import Message, catalog, exported, imported, po, updated

AWKWARD = 'A "quoted" $\\lambda$, 50% of it\n\n- `{x}`\\n\n  100 %(d)s 图像'


def cells(path: Path) -> list[dict]:
    return json.loads(path.read_text(encoding="utf-8"))["cells"]


def test_a_file_keeps_every_sign_and_takes_no_other_words(tmp_path: Path) -> None:
    old, new = "new\n\nwords", "旧的"
    messages = {"a": Message(AWKWARD, AWKWARD[::-1]), "b": Message("one")}
    messages["c"] = Message(old, new, AWKWARD)
    (tmp_path / "x.po").write_text(po(messages), encoding="utf-8")
    assert catalog(tmp_path / "x.po") == messages
    assert imported(messages, exported(messages)) == messages  # nobody has edited it
    kept = exported(messages).replace("@@ c (changed)", "@@ c")
    assert imported(messages, kept) == messages | {"c": Message(old, new)}
    edited = kept.replace("one\n@@ zh\n", "one\n@@ zh\n一\n")
    assert imported(messages, edited)["b"] == Message("one", "一")
    for there, other in (("one", "won"), ("@@ a", "@@ x"), ("@@ zh", "@@ de")):
        with pytest.raises(ValueError):
            imported(messages, kept.replace(there, other, 1))


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


@pytest.mark.parametrize("path", LESSONS, ids=lambda path: path.stem)
def test_a_chinese_lesson(path: Path) -> None:
    """Code as it is but for one line; words, links and verdicts Chinese."""
    here = path.parent / "zh"
    english, chinese = cells(path), cells(here / path.name)
    code = [next(c for c in cs if "outputs" in c) for cs in (english, chinese)]
    assert code[1]["source"].pop() == 'd2l.language("zh")'
    code[0]["source"][-1] += "\n"
    for old, new in zip(english, chinese, strict=True):
        words = []
        if new["cell_type"] == "markdown":
            words, old["source"] = ["".join(new["source"])], new["source"]
        outputs = zip(old.get("outputs", ()), new.get("outputs", ()), strict=True)
        for output, said in outputs:
            if "d2lext" in output.get("metadata", ()):
                words += said["data"]["text/plain"]
                output["data"] = said["data"]
        assert all(re.search("[一-龥]", text) for text in words)
        for target in re.findall(r"\]\(([\w./]+\.(?:ipynb|md|py))", "".join(words)):
            file = (here / target).resolve().relative_to(ROOT)
            assert (ROOT / file).exists()
            assert "zh" in str(file) or file.suffix == ".py"
    assert english == chinese


def test_check_fails_for_what_is_stale(tmp_path: Path, capsys) -> None:
    copy_course(tmp_path)
    assert translate.main(["--check"], tmp_path) == 0, capsys.readouterr()
    lesson = tmp_path / "notebooks/02_crop.ipynb"
    text = lesson.read_text(encoding="utf-8")
    lesson.write_text(text.replace('"# 2 ', '"# 2 More '), encoding="utf-8")
    capsys.readouterr()
    assert translate.main(["--check"], tmp_path) == 1
    said = capsys.readouterr()
    assert "notebooks/zh/02_crop.ipynb is stale" in said.out
    assert said.err == "translate: 02_crop: title: changed\n"
    assert translate.main([], tmp_path) == 0  # English in its place
    assert cells(lesson)[0] == cells(lesson.parent / "zh/02_crop.ipynb")[0]


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
