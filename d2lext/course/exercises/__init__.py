"""Tell a learner whether the answer to an exercise is right, and if not, why.

`check(id, answer)` tries the answer on a small case first, and then on many random
ones. It tests behaviour and never reads the answer's source: values, statistics over
many draws, independence, and whether the answer changed its input or the random state.
Each lesson has a module here with its words and its check.
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

from d2lext.course.language import say
from d2lext.widgets.sliders import seeded

NAMES = "flip crop color compose cifar10 batch multi_gpu compare mixup questions"
LESSONS = {f"{number}.1": name for number, name in enumerate(NAMES.split(" "), 1)}
LIMIT = 10.0  # seconds for one check
SIGMAS = 6  # a right answer fails by chance once in 10**9 times
N = 3000  # images for statistics

# The words for mistakes that any exercise can meet, by key.
ANY = {
    "unanswered": "not answered yet.",
    "function": "pass the function itself, without calling it; got {got}.",
    "none": "your function returned None. Is a return statement missing?",
    "type": "your function should return {wanted}; got {got}.",
    "shape": "the result should have shape {wanted}; got {got}.",
    "raised": "your function raised {error}. It was called with {called}.",
    "written": "your function changed its input. Work on a copy, or on new tensors.",
    "slow": "your function took over {limit:.0f} s. Restart the kernel if it is slow.",
    "range": "the indices should lie from 0 to {last}; yours run from {found}.",
    "other": "the values are wrong. Work out a small example by hand and compare.",
    "together": "all images share one draw. Draw for each image.",
    "frozen": "two calls in a row drew the same values. Draw anew in each call, "
    "without a fixed seed.",
    "seeds": "your function seeds a global random generator. Use no seed, or seed a "
    "generator of its own: torch.Generator().manual_seed(...).",
    "pattern": "the draws are not independent: some predict others. Draw each "
    "separately.",
}


class AnswerError(Exception):
    """A mistake in an answer; `key` finds its words in WORDS or ANY."""

    def __init__(self, key: str, **values: object) -> None:
        super().__init__(key)
        self.key, self.values = key, values


class Verdict(NamedTuple):
    """The result of a check: "right" or the key of a mistake, and its words."""

    id: str
    key: str
    words: str

    def __str__(self) -> str:
        return say("{}: {}").format(self.id, self.words)

    __repr__ = __str__

    def _repr_mimebundle_(self, include=None, exclude=None) -> tuple[dict, dict]:
        """The line to print, with the verdict as metadata that notebooks store."""
        stored = {"exercise": self.id, "verdict": self.key}
        return {"text/plain": str(self)}, {"d2lext": stored}


def check(id: str | float, answer: object) -> None:
    """Print whether `answer` solves exercise `id`, or what is wrong; never raise.

    It takes at most 10 s, and shows only what `answer` prints in its first call.
    """
    display(verdict(id, answer))


def verdict(id: str | float, answer: object) -> Verdict:
    """The verdict that `check` prints."""
    if (id := str(id)) not in LESSONS:
        words = say("no exercise has this number. Choose from {}.")
        return Verdict(id, "unknown", words.format(", ".join(LESSONS)))
    lesson = importlib.import_module(f"{__name__}.{LESSONS[id]}")
    wrong = _tried(lesson.check, answer)
    if wrong is None:
        words = say("right: {}").format(say(lesson.WORDS["right"]))
        return Verdict(id, "right", words)
    values = {k: say(v) if isinstance(v, str) else v for k, v in wrong.values.items()}
    words = say((ANY | lesson.WORDS)[wrong.key]).format(**values)
    if wrong.key not in ("unanswered", "slow"):
        words = say("not yet: {}").format(words)
    return Verdict(id, wrong.key, words)


def _tried(test: Callable, function: object) -> AnswerError | None:
    """The mistake that a check finds; it runs in a thread that can be stopped."""
    answer, found = Answer(function), []

    def run() -> None:
        try:
            refuse("unanswered", function is ...)
            refuse("function", not callable(function), got=kind(function))
            found.append(test(answer))
        except AnswerError as wrong:
            found.append(wrong)
        except BaseException as error:  # SystemExit, too: nothing may reach the learner
            found.append(_raised(error, say("valid arguments")))

    # The system's seed gives fresh inputs at each check, and `seeded` restores the
    # learner's own generators afterwards.
    with seeded(random.SystemRandom().randrange(2**31)), answer.quiet:
        thread = threading.Thread(target=run, daemon=True)
        thread.start()
        try:
            thread.join(LIMIT)
        finally:  # an interrupt of the kernel ends up here, too
            if late := thread.is_alive():  # stops Python code, but no call into C
                end, id = ctypes.py_object(SystemExit), ctypes.c_ulong(thread.ident)
                ctypes.pythonapi.PyThreadState_SetAsyncExc(id, end)
                thread.join(1)
    return AnswerError("slow", limit=LIMIT) if late else found[0]


class Answer:
    """A learner's function; each call of it raises AnswerError for a mistake."""

    def __init__(self, function: Callable) -> None:
        self.function = function
        self.quiet = contextlib.ExitStack()  # from the second call on
        self.ends: set | None = None  # states of generators after calls

    def __call__(self, *args: object) -> object:
        tensors = [a for a in args if isinstance(a, torch.Tensor)]
        before = [a.clone() for a in tensors]
        torch.rand(1), np.random.rand(), random.random()  # no two calls start alike
        seed, start = torch.initial_seed(), _states()
        try:
            result = self.function(*args)
        except Exception as error:
            raise _raised(error, ", ".join(map(_shown, args))) from error
        if self.ends is None:
            self.ends = set()
            self.quiet.enter_context(capture_output())
        refuse("unanswered", result is ...)
        refuse("none", result is None)
        refuse("written", not all(map(torch.equal, before, tensors)))
        # Calls that start in different states and end in the same one have seeded.
        ends = _states() - start
        refuse("seeds", torch.initial_seed() != seed or ends & self.ends)
        self.ends |= ends
        return result

    def tensor(self, *args: object, shape: tuple[int, ...]) -> torch.Tensor:
        """Call the answer; it must return a tensor of this shape."""
        result = self(*args)
        wrong = not isinstance(result, torch.Tensor)
        refuse("type", wrong, wanted="a tensor", got=kind(result))
        wanted, got = tuple(shape), tuple(result.shape)
        refuse("shape", got != wanted, wanted=wanted, got=got)
        return result.detach()

    def indices(self, *args: object, n: int) -> list[int]:
        """Call the answer; it must return indices from 0 to n - 1, as any iterable."""
        found = self(*args)
        if isinstance(found, torch.Tensor | np.ndarray):
            found = found.tolist()
        try:
            found = list(itertools.islice(found, 3 * n + 100))  # it may be endless
            indices = [operator.index(i) for i in found]
            wrong = bool in map(type, found)  # a mask
        except TypeError:
            wrong = True
        refuse("type", wrong, wanted="a list of indices", got=kind(found))
        low, high = min(indices, default=0), max(indices, default=0)
        refuse("range", low < 0 or high >= n, last=n - 1, found=f"{low} to {high}")
        return indices


def _states() -> set:
    return {np.random.get_state()[1].tobytes(), random.getstate()}


def _raised(error: BaseException, called: str) -> AnswerError:
    words = re.sub(r" at 0x[0-9a-fA-F]+", "", str(error).partition("\n")[0])
    error = f"{type(error).__name__}: {words}".removesuffix(": ")
    return AnswerError("raised", error=error, called=called)


def _shown(value: object) -> str:
    if isinstance(value, torch.Tensor) and value.numel() > 9:
        return f"{value.dtype} {tuple(value.shape)}"
    return "net" if isinstance(value, torch.nn.Module) else str(value)


def kind(value: object) -> str:
    """A value's type in words."""
    if isinstance(value, torch.Tensor):
        return say("a tensor of {}").format(str(value.dtype).removeprefix("torch."))
    if isinstance(value, list) and value:
        kinds = sorted({type(v).__name__ for v in value})
        return say("a list of {}").format(", ".join(kinds))
    return type(value).__name__


def integers(low: int, high: int, count: int = 1) -> list[int]:
    """Different random integers from low to high, inclusive."""
    return (low + torch.randperm(high - low + 1)[:count]).tolist()


def same(a: torch.Tensor, b: torch.Tensor) -> bool:
    """Whether all values agree up to rounding."""
    return a.shape == b.shape and torch.allclose(a.double(), b.double(), atol=1e-5)


def refuse(key: str, wrong: object, **values: object) -> None:
    """Raise the mistake `key` if `wrong` is true."""
    if wrong:
        raise AnswerError(key, **values)


def match(found: torch.Tensor, right: torch.Tensor, mistakes: dict) -> None:
    """Raise the mistake whose values these are, or "other", unless they are right."""
    if not same(found, right):
        for key, values in mistakes.items():
            refuse(key, any(same(found, wrong) for wrong in values))
        raise AnswerError("other")


def fair(drawn: torch.Tensor, group: torch.Tensor) -> bool:
    """Whether chance explains how often each item, and each pair, was drawn.

    drawn: 1 where a trial took an item, else 0, (trials, n).
    group: (n,); each trial takes equally many items of a group, without replacement.
    """
    (trials, n), drawn = drawn.shape, drawn.double()
    size, times = group.bincount()[group], drawn.sum(0)
    part = group.bincount(times)[group] / size / trials
    squares = trials * ((times / trials - part) ** 2 / (part * (1 - part))).sum()
    within = part * (part * size - 1) / (size - 1)
    pairs = trials * torch.where(group[:, None] == group, within, part[:, None] * part)
    off = (drawn.T @ drawn - pairs).abs() / pairs.clamp(min=1) ** 0.5
    off.fill_diagonal_(0)
    # More than SIGMAS: chi-squared has a long tail, and there are many pairs.
    return bool(squares < n + 10 * (2 * n) ** 0.5 and off.max() < SIGMAS + 1)


def distributed(found: torch.Tensor, right: torch.Tensor) -> bool:
    """Whether chance explains how draws (n,) differ from many right ones (m,)."""
    found, right = found.double().sort().values, right.double().sort().values
    scale = (1 / len(found) + 1 / len(right)) ** 0.5
    for power in (1, 2):
        theirs, ours = ((k - right.mean()) ** power for k in (right, found))
        if abs(ours.mean() - theirs.mean()) > SIGMAS * scale * theirs.std():
            return False
    # The Kolmogorov-Smirnov distance; by chance, one in 10**9 is larger.
    below = torch.searchsorted(right, found) / len(right)
    distance = (below - torch.linspace(0, 1, len(found))).abs().max()
    return bool(distance < 3.3 * scale and len(found.unique()) > len(found) / 2)


def draws(call: Callable, *args: object) -> torch.Tensor:
    """The draws (streams, n) of two calls, which must be independent."""
    first, second = call(*args), call(*args)
    refuse("together", (first == first[:, :1]).all(1).any())
    refuse("frozen", torch.equal(first, second))
    both = torch.cat([first, second], 1)
    refuse("pattern", patterned(both))
    return both


def patterned(z: torch.Tensor) -> bool:
    """Whether draws (streams, n) predict later ones in their own or another stream."""
    z = z.double()
    z = (z - z.mean(1, keepdim=True)) / z.std(1, keepdim=True)
    n, least = z.shape[1], 300  # the fewest pairs at any distance
    spectrum = torch.fft.rfft(z, 2 * n)
    sums = torch.fft.irfft(spectrum[:, None] * spectrum.conj(), 2 * n)
    pairs = n - torch.arange(1.0, n - least)
    return bool((sums[..., 1 : n - least].abs() > 8 * pairs.sqrt()).any())
