"""The language of the checks: English, or that of a translated lesson."""

import json
from pathlib import Path

_words: dict[str, str] = {}


def language(code: str) -> None:
    """Let `check` speak English ("en") or Chinese ("zh"), as the lesson does."""
    files = {"en": None, "zh": Path(__file__).with_name("zh.json")}
    if code not in files:
        raise ValueError(f"language should be one of {', '.join(files)}; got {code!r}")
    _words.clear()
    if file := files[code]:
        _words.update(json.loads(file.read_text(encoding="utf-8")))


def say(text: str) -> str:
    """A text in the chosen language, in English where it is not translated."""
    return _words.get(text, text)
