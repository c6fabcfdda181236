"""Tell a learner whether the answer to an exercise is right, and if not, why.

`check(id, answer)` tries the answer on a small case first, and then on many random
ones. It looks at behaviour, never at the text of the answer: values, statistics over
many draws, independence across the batch and between calls, and whether the input or
the random state were changed. Each lesson has a module here with its words and check.
"""

import contextlib
import ctypes
import importlib
import itertools
import operator
import random
import re
import threading
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
from IPython.display import display
from IPython.utils.capture import capture_output

from d2lext.widgets.sliders import seeded

NAMES = "flip crop color compose cifar10 batch multi_gpu compare mixup questions"
LESSONS = {f"{number}.1": name for number, name in enumerate(NAMES.split(" "), 1)}
LIMIT = 10.0  # seconds for one check
SIGMAS = 6  # a right answer fails by chance once in 10**9 times
N = 3000  # images that statistics are taken over

# What is said of mistakes that occur in every exercise, by their keys.
ANY = {
    "unanswered": "not answered yet.",
    "none": "returned None. Is a return missing?",
    "type": "should return {wanted}, got {got}.",
    "shape": "should return shape {wanted}, got {got}.",
    "raised": "raised {error}. It was called with {called}.",
    "written": "the input was changed. Work on a copy, or on new tensors.",
    "slow": "took longer than {limit:.0f} s, and was stopped.",
    "endless": "took longer than {limit:.0f} s and does not stop: restart the kernel.",
    "mask": "that is a mask of True and False; return the indices.",
    "range": "indices should be from 0 to {last}; found {found}.",
    "many": "more than {most} indices come out. Does it end?",
    "other": "the values are wrong; compare a small case with one made by hand.",
    "frozen": "two calls in a row draw the same. Draw in the function, without a seed.",
    "seeds": "it seeds the generator of the whole program. Take no seed, or its "
    "own generator: torch.Generator().manual_seed(...).",
    "pattern": "the draws depend on each other: one tells another. Draw each anew.",
}


class AnswerError(Exception):
    """A mistake, by its key in the tables of words."""

    def __init__(self, key: str, **values: object) -> None:
        super().__init__(key)
        self.key, self.values = key, values


class Verdict(NamedTuple):
    """What a check found: "right" or the key of a mistake, and the words for it."""

    id: str
    key: str
    words: str

    def __str__(self) -> str:
        return f"{self.id}: {self.words}"

    __repr__ = __str__

    def _repr_mimebundle_(self, include=None, exclude=None) -> tuple[dict, dict]:
        """The line, and as its metadata, which notebooks store, the verdict as data."""
        stored = {"exercise": self.id, "verdict": self.key}
        return {"text/plain": str(self)}, {"d2lext": stored}


def check(id: str | float, answer: object) -> None:
    """Show whether `answer` solves exercise `id`: not yet, wrong and why, or right.

    Takes at most 10 s, leaves the random generators as they were, and raises nothing,
    whatever the answer does. What it prints in its first call alone is shown.
    """
    display(verdict(id, answer))


def verdict(id: str | float, answer: object) -> Verdict:
    """What `check` shows."""
    if (id := str(id)) not in LESSONS:
        known = ", ".join(LESSONS)
        return Verdict(id, "unknown", f"there is no such exercise; there are {known}.")
    lesson = importlib.import_module(f"{__name__}.{LESSONS[id]}")
    wrong = _tried(lesson.check, answer)
    if wrong is None:
        return Verdict(id, "right", f"right: {lesson.WORDS['right']}")
    words = (ANY | lesson.WORDS)[wrong.key].format(**wrong.values)
    early = wrong.key in ("unanswered", "slow", "endless")
    return Verdict(id, wrong.key, words if early else f"not yet: {words}")


def _tried(test: Callable, function: object) -> AnswerError | None:
    if function is ...:
        return AnswerError("unanswered")
    if not callable(function):
        return AnswerError("type", wanted="a function", got=kind(function))
    found: list[AnswerError | None] = []

    def run() -> None:
        try:
            test(Answer(function, after_first))
            found.append(None)
        except AnswerError as wrong:
            found.append(wrong)
        except BaseException as error:  # SystemExit too: nothing may reach the reader
            found.append(_raised(error, "what it should be able to take"))

    # Seeded anew at each check, from the system: fresh inputs, and the reader's own
    # generators undisturbed.
    seed = random.SystemRandom().randrange(2**31)
    with seeded(seed), contextlib.ExitStack() as after_first:
        thread = threading.Thread(target=run, daemon=True)
        thread.start()
        try:
            thread.join(LIMIT)
        finally:  # the kernel's interrupt comes here too
            if late := thread.is_alive():  # Python can be stopped, a call into C cannot
                end, id = ctypes.py_object(SystemExit), ctypes.c_ulong(thread.ident)
                ctypes.pythonapi.PyThreadState_SetAsyncExc(id, end)
                thread.join(1)
    if late:
        return AnswerError("endless" if thread.is_alive() else "slow", limit=LIMIT)
    return found[0]


class Answer:
    """A learner's function; each call of it raises AnswerError for a mistake."""

    def __init__(self, function: Callable, after_first: contextlib.ExitStack) -> None:
        self.function, self.after_first = function, after_first
        self.ends: set[int] | None = None  # states of generators after calls

    def __call__(self, *args: object) -> object:
        before = [a.clone() if isinstance(a, torch.Tensor) else a for a in args]
        torch.rand(1), np.random.rand(), random.random()  # no call begins as another
        seed, start = torch.initial_seed(), _states()
        try:
            result = self.function(*args)
        except Exception as error:
            raise _raised(error, ", ".join(map(_shown, args))) from error
        if self.ends is None:
            self.ends = set()
            self.after_first.enter_context(capture_output())
        if result is ...:
            raise AnswerError("unanswered")
        if result is None:
            raise AnswerError("none")
        for old, new in zip(before, args, strict=True):
            if isinstance(old, torch.Tensor) and not torch.equal(old, new):
                raise AnswerError("written")
        # Calls that begin differently and end alike have seeded in between.
        ends = _states() - start
        if torch.initial_seed() != seed or ends & self.ends:
            raise AnswerError("seeds")
        self.ends |= ends
        return result

    def tensor(self, *args: object, shape: tuple[int, ...]) -> torch.Tensor:
        """What it returns, if that is a tensor of this shape."""
        result = self(*args)
        if not isinstance(result, torch.Tensor):
            raise AnswerError("type", wanted="a tensor", got=kind(result))
        if result.shape != torch.Size(shape):
            raise AnswerError("shape", wanted=tuple(shape), got=tuple(result.shape))
        return result.detach()

    def indices(self, *args: object, n: int) -> list[int]:
        """What it returns, as a list of integers from 0 to n - 1."""
        found, most = self(*args), 3 * n + 100
        if isinstance(found, torch.Tensor | np.ndarray):
            found = found.tolist()
        try:
            found = list(itertools.islice(found, most + 1))  # it may have no end
            if found and all(isinstance(i, bool | np.bool_) for i in found):
                raise AnswerError("mask")
            found = [operator.index(i) for i in found]
        except TypeError:
            raise AnswerError("type", wanted="indices", got=kind(found)) from None
        if len(found) > most:
            raise AnswerError("many", most=most)
        if found and not 0 <= min(found) <= max(found) < n:
            shown = f"{min(found)} to {max(found)}"
            raise AnswerError("range", last=n - 1, found=shown)
        return found


def _states() -> set[int]:
    _, keys, place, *_ = np.random.get_state()
    return {hash((keys.tobytes(), place)), hash(random.getstate())}


def _raised(error: BaseException, called: str) -> AnswerError:
    words = re.sub(r" at 0x[0-9a-fA-F]+", "", str(error).partition("\n")[0])
    name = type(error).__name__
    error = f"{name}: {words}" if words else name
    return AnswerError("raised", error=error, called=called)


def _shown(value: object) -> str:
    if isinstance(value, torch.Tensor):
        return f"{value.dtype} {tuple(value.shape)}"
    return "net" if isinstance(value, torch.nn.Module) else str(value)


def kind(value: object) -> str:
    """A value's type, for a reader."""
    if isinstance(value, torch.Tensor):
        return f"a tensor {value.dtype}".replace("torch.", "of ")
    return type(value).__name__


def integers(low: int, high: int, count: int = 1) -> list[int]:
    """Integers from low to high, drawn, and all different."""
    return (low + torch.randperm(high - low + 1)[:count]).tolist()


def same(a: torch.Tensor, b: torch.Tensor) -> bool:
    """Whether all values are equal, but for rounding."""
    return a.shape == b.shape and torch.allclose(a.double(), b.double(), atol=1e-5)


def refuse(key: str, wrong: object, **values: object) -> None:
    """Raise a mistake where it was made."""
    if wrong:
        raise AnswerError(key, **values)


def match(found: torch.Tensor, right: torch.Tensor, mistakes: dict) -> None:
    """Raise the mistake among whose values these are, unless they are right."""
    if not same(found, right):
        for key, values in mistakes.items():
            refuse(key, any(same(found, wrong) for wrong in values))
        raise AnswerError("other")


def even(counts: torch.Tensor, expected: torch.Tensor | float | None = None) -> bool:
    """Whether counts could be as expected (default: all equal) but for chance."""
    counts = counts.double()
    expected = counts.mean() if expected is None else expected
    return bool(((counts - expected).abs() < SIGMAS * expected**0.5).all())


def patterned(*streams: torch.Tensor) -> bool:
    """Whether draws (n,) tell others at some distance, of their own stream or another.

    (Of two calls, one behind the other, the draws of each and of both are compared.)
    """
    z = torch.stack(streams).double()
    z = (z - z.mean(1, keepdim=True)) / z.std(1, keepdim=True)
    n, least = z.shape[1], 300  # a distance needs as many pairs
    spectrum = torch.fft.rfft(z, 2 * n)
    sums = torch.fft.irfft(spectrum[:, None] * spectrum.conj(), 2 * n)
    pairs = n - torch.arange(1.0, n - least)
    return bool((sums[..., 1 : n - least].abs() > 8 * pairs.sqrt()).any())
