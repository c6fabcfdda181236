"""Tell a learner whether the answer to an exercise is right, and if not, why.

`check(id, answer)` tries the answer on fresh random inputs and prints one line. What it
looks at is the behaviour: values, statistics over many draws, independence across the
batch, and whether the input was written to; never the text of the answer.
"""

import ctypes
import itertools
import json
import operator
import random
import threading
from collections.abc import Callable

import numpy as np
import torch
from torch.nn import functional as F

from d2lext.images import data_path
from d2lext.sliders import seeded

LIMIT = 10.0  # seconds for one check
SIGMAS = 6  # a right answer fails by chance once in 10**9 times
N = 3000  # pictures that statistics are taken over

# Of every exercise: what is said of a right answer, and of each mistake. A key of ANY
# may occur in all of them.
ANY = {
    "unanswered": "not answered yet.",
    "none": "returned None. Is a return missing?",
    "type": "should return {wanted}, got {got}.",
    "shape": "should return shape {wanted}, got {got}.",
    "raised": "raised {error}. It was called with {called}.",
    "written": "the input was changed. Work on a copy, or on new tensors.",
    "slow": f"took longer than {LIMIT:.0f} s, and was stopped.",
    "endless": f"took longer than {LIMIT:.0f} s and does not stop: restart the kernel, "
    "or it goes on in the background.",
    "mask": "that is a mask of True and False; return the indices.",
    "other": "the values are wrong; compare a small case with one made by hand.",
    "frozen": "two calls in a row draw the same. Draw in the function, without a seed.",
}
WORDS = {
    "1.1": {
        "right": "an index that runs backwards along the width mirrors all pictures.",
        "same": "the pictures came back as they were.",
        "upside": "that is upside down: the rows run backwards, not the columns.",
        "channels": "the colour channels were exchanged, not the columns.",
        "order": "the pictures come in another order, and none is mirrored.",
    },
    "2.1": {
        "right": "each picture has its own place, and every place is as likely.",
        "mixed": "a crop should be one connected piece of the picture with its number.",
        "together": "all pictures are cropped at the same row or column. Draw both for "
        "each picture.",
        "diagonal": "row and column are always the same number. Draw both.",
        "first": "the crop never begins at the first row or column.",
        "last": "the last row or column is never reached: h - size + 1 rows are "
        "possible beginnings, and randint's upper end is not drawn.",
        "uneven": "some places are drawn more often than others.",
    },
    "3.1": {
        "right": "one factor for each picture, drawn evenly around 1, and clipped.",
        "unclipped": "values above 1 come out. Clip to the range of pixels.",
        "added": "something is added. Brightness *multiplies*, so that black stays.",
        "together": "all pictures have the same factor. One draw for each.",
        "pixels": "within a picture the factor differs. That is noise, not brightness.",
        "channels": "each channel has a factor of its own. That changes the colour; "
        "brightness has one for all three.",
        "range": "factors should lie between 1 - amount and 1 + amount; found {found}.",
        "centre": "the mean factor should be 1, found {found}: brighter and darker "
        "are not equally likely.",
        "uneven": "the factors should be spread evenly, to both ends of the range.",
    },
    "4.1": {
        "right": "the mean of the two answers, as probabilities.",
        "plain": "that is the answer for the pictures as they are, alone.",
        "mirrored": "that is the answer for the mirrored pictures, alone.",
        "logits": "that is the mean *before* softmax. Take probabilities, then the "
        "mean.",
        "sum": "the rows add up to 2. Take the mean, not the sum.",
        "labels": "return probabilities, not the classes guessed.",
        "upside": "the second view is upside down. Mirror along the width.",
        "drawn": "two calls give different answers. Mirror always, not by chance.",
    },
    "5.1": {
        "right": "as many of each class, at random, and the same again for a seed.",
        "twice": "a picture is held out {found} times.",
        "range": "indices should be from 0 to {last}; found {found}.",
        "within": "the indices count within a class; they should count in y.",
        "classes": "of the classes {found} pictures are held out, not {wanted} each. "
        "Draw within each class.",
        "unstable": "the same seed holds out other pictures in the next call.",
        "seed": "another seed holds out the same pictures.",
        "first": "only pictures from the front of the data set are held out. Draw.",
    },
    "6.1": {
        "right": "half of the pictures at first, then the other half, in turn.",
        "independent": "an epoch should mirror just those that the one before did not; "
        "here it draws anew. Let the first draw depend on a seed of its own.",
        "together": "within an epoch all pictures are mirrored or none. About half of "
        "them should be.",
        "constant": "every epoch mirrors the same pictures.",
        "part": "about half of the pictures should be mirrored, found {found}.",
        "regular": "half of them are mirrored, but in a pattern. Draw which ones.",
        "epochs": "epochs 0 and 1 are right, but epochs 2 and 3 do not repeat them.",
    },
    "7.1": {
        "right": "every example once, on one process, in an order that all agree on.",
        "missing": "{found} of {n} examples are left out.",
        "range": "indices should be from 0 to {last}; found {found}.",
        "twice": "{found} of {n} examples come more than once. Do the processes "
        "shuffle with the same seed?",
        "padded": "{found} examples are dealt twice, to make the shares equal. Let the "
        "shares differ by one instead.",
        "fixed": "a process has the same examples for every seed, only in another "
        "order. Shuffle all of them first, then deal.",
        "unshuffled": "the examples come in their order. Shuffle, with the seed.",
        "seed": "another seed gives the same order.",
        "uneven": "the shares differ by {found} examples; 1 is the most that is "
        "needed.",
    },
    "8.1": {
        "right": "by more than the spread of the difference, within the budget. "
        "(Settings that are just as good get here one time in six: more seeds tell.)",
        "empty": "the list is empty. Has your training been recorded?",
        "data": "some runs are on other data than the sample: {found}.",
        "budget": "a run may see {wanted:,} pictures; one has seen {found:,}.",
        "net": "a run has a net of {found:,} parameters; the lesson's has {wanted:,}.",
        "several": "the runs are of different settings. Give those of one.",
        "few": "there are {found} different seeds. Train at least {wanted}.",
        "same": "that is the lesson's own policy; find another.",
        "lower": "the mean test accuracy is {found:.1f}%, the lesson's {wanted:.1f}%.",
        "noise": "{found:.1f}% is more than the lesson's {wanted:.1f}%, but with this "
        "spread a difference up to {spread:.1f} points may be chance.",
    },
    "9.1": {
        "right": "each picture has its own lambda, and its label has it too.",
        "one": "all pictures have the same lambda. Draw n of them.",
        "swapped": "lam belongs to the second picture here; it is the share of x.",
        "labels": "y_b is not the label of the picture that was mixed in. Use one "
        "permutation for both.",
        "partners": "a picture was mixed in several times, or never. Use a "
        "permutation.",
        "range": "lambda should lie between 0 and 1; found {found}.",
        "unmixed": "the pictures come back as they were. Mix each with a partner.",
        "formula": "the mixture is not lam * x + (1 - lam) * x[index], with the "
        "lam that is returned.",
        "mean": "the mean lambda should be 0.5, found {found:.2f}. Is it Beta(alpha, "
        "alpha)?",
        "beta": "lambda has the wrong spread: its variance should be {wanted:.3f} for "
        "this alpha, found {found:.3f}. Is it Beta(alpha, alpha)?",
    },
    "10.1": {
        "right": "found among the true ones, and true among the found ones.",
        "swapped": "the two are exchanged: recall comes first.",
        "accuracy": "one of them is the accuracy: the share of right answers, which "
        "is high as soon as positives are rare.",
        "negatives": "one of them is computed for the negatives.",
        "nan": "where nothing is found, or nothing is there, the number should be 0; "
        "found {found}.",
    },
}


class AnswerError(Exception):
    """A mistake, by its key in the table of words."""

    def __init__(self, key: str, **values: object) -> None:
        super().__init__(key)
        self.key, self.values = key, values


def check(id: str, answer: object) -> None:
    """Print whether `answer` solves exercise `id`: not yet, wrong and why, or right.

    Takes at most 10 s, leaves the random generators as they were, and raises nothing,
    whatever the answer does. An id that does not exist is said to be one.
    """
    print(f"{id}: {verdict(id, answer)[1]}")


def verdict(id: str, answer: object) -> tuple[str, str]:
    """The key of what `check` found, and its words; "right" if it is."""
    if not isinstance(id, str) or id not in CHECKS:
        known = ", ".join(CHECKS)
        return "unknown", f"there is no such exercise; there are {known}."
    wrong = _tried(CHECKS[id], answer)
    if wrong is None:
        return "right", f"right: {WORDS[id]['right']}"
    words = (WORDS[id] | ANY)[wrong.key].format(**wrong.values)
    if wrong.key in ("unanswered", "slow", "endless"):
        return wrong.key, words
    return wrong.key, f"not yet: {words}"


def _tried(test: Callable, answer: object) -> AnswerError | None:
    if answer is ...:
        return AnswerError("unanswered")
    if not callable(answer):
        return AnswerError("type", wanted="a function", got=_kind(answer))
    found: list[AnswerError | None] = []

    def run() -> None:
        try:
            test(answer)
            found.append(None)
        except AnswerError as wrong:
            found.append(wrong)
        except BaseException as error:  # SystemExit too: nothing may reach the reader
            found.append(_raised(error, "what it should be able to take"))

    # Seeded anew at each check, from the system: fresh inputs, and the reader's own
    # generators undisturbed.
    with seeded(random.SystemRandom().randrange(2**31)):
        thread = threading.Thread(target=run, daemon=True)
        thread.start()
        thread.join(LIMIT)
        if thread.is_alive():
            return AnswerError("slow" if _stopped(thread) else "endless")
    return found[0]


def _stopped(thread: threading.Thread) -> bool:
    """Whether it could be stopped: Python code can, a call into C that hangs cannot."""
    end = ctypes.py_object(SystemExit)
    ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread.ident), end)
    thread.join(1)
    return not thread.is_alive()


def _raised(error: BaseException, called: str) -> AnswerError:
    name = type(error).__name__
    words = str(error).partition("\n")[0]
    return AnswerError(
        "raised", error=f"{name}: {words}" if words else name, called=called
    )


def _kind(value: object) -> str:
    if isinstance(value, torch.Tensor):
        return f"a tensor {value.dtype}".replace("torch.", "of ")
    return type(value).__name__


def _called(answer: Callable, *args: object) -> object:
    """answer(*args); an AnswerError if it raises or changes its input."""
    before = [a.clone() if isinstance(a, torch.Tensor) else a for a in args]
    try:
        result = answer(*args)
    except Exception as error:
        shown = (
            f"{a.dtype} {tuple(a.shape)}" if isinstance(a, torch.Tensor) else str(a)
            for a in args
        )
        raise _raised(error, ", ".join(shown)) from error
    if result is ...:
        raise AnswerError("unanswered")
    if result is None:
        raise AnswerError("none")
    for old, new in zip(before, args, strict=True):
        if isinstance(old, torch.Tensor) and not torch.equal(old, new):
            raise AnswerError("written")
    return result


def _tensor(answer: Callable, *args: object, shape: tuple[int, ...]) -> torch.Tensor:
    result = _called(answer, *args)
    if not isinstance(result, torch.Tensor):
        raise AnswerError("type", wanted="a tensor", got=_kind(result))
    if result.shape != torch.Size(shape):
        raise AnswerError("shape", wanted=shape, got=tuple(result.shape))
    return result.detach()


def _indices(found: object) -> list[int]:
    """What an answer returned as a list of whole numbers."""
    if isinstance(found, torch.Tensor | np.ndarray):
        found = found.tolist()
    try:
        found = list(found)
        if found and all(isinstance(i, bool | np.bool_) for i in found):
            raise AnswerError("mask")
        return [operator.index(i) for i in found]
    except TypeError:
        raise AnswerError("type", wanted="indices", got=_kind(found)) from None


def _same(a: torch.Tensor, b: torch.Tensor) -> bool:
    return a.shape == b.shape and torch.allclose(a.double(), b.double(), atol=1e-5)


def _even(counts: torch.Tensor) -> bool:
    """Whether all of these counts could be equal but for chance."""
    mean = counts.double().mean()
    return bool(((counts - mean).abs() < SIGMAS * mean.sqrt()).all())


def _flip(answer: Callable) -> None:
    for X in (torch.rand(3, 3, 5, 6), torch.randint(0, 256, (4, 3, 4, 4)).byte()):
        Y = _tensor(answer, X, shape=tuple(X.shape))
        mistakes = {"same": X, "upside": X.flip(2), "channels": X.flip(1)}
        mistakes["order"] = X.flip(0)
        _compare(Y, X.flip(3), mistakes)
        if Y.dtype != X.dtype:
            raise AnswerError("type", wanted=_kind(X), got=_kind(Y))


def _compare(found: torch.Tensor, right: torch.Tensor, mistakes: dict) -> None:
    if _same(found, right):
        return
    for key, values in mistakes.items():
        if _same(found, values):
            raise AnswerError(key)
    raise AnswerError("other")


def _crop(answer: Callable) -> None:
    n, height, width, size = N, 7, 9, 4
    picture, row, column = torch.meshgrid(
        *(torch.arange(k, dtype=torch.float32) for k in (n, height, width)),
        indexing="ij",
    )
    X = torch.stack([picture, row, column], 1)  # every pixel says where it is
    first, second = (_tensor(answer, X, size, shape=(n, 3, size, size)) for _ in "ab")
    begin = first[:, :, :1, :1]  # (n, 3, 1, 1)
    expected = torch.stack([picture, row, column], 1)[:, :, :size, :size].clone()
    expected[:, 1:] += begin[:, 1:]
    if not _same(first, expected):
        raise AnswerError("mixed")
    rows, columns = begin[:, 1:].long().flatten(1).T
    if (rows == rows[0]).all() or (columns == columns[0]).all():
        raise AnswerError("together")
    if torch.equal(first, second):
        raise AnswerError("frozen")
    if torch.equal(rows, columns):
        raise AnswerError("diagonal")
    if rows.min() > 0 or columns.min() > 0:
        raise AnswerError("first")
    if rows.max() < height - size or columns.max() < width - size:
        raise AnswerError("last")
    places = rows * (width - size + 1) + columns
    if not _even(places.bincount(minlength=(height - size + 1) * (width - size + 1))):
        raise AnswerError("uneven")


def _brightness(answer: Callable) -> None:
    amount = 0.4
    X = torch.empty(N, 3, 2, 2)
    X[..., 0], X[..., 1] = 0.5, 0.9  # the second is clipped at times
    first, second = (_tensor(answer, X, amount, shape=tuple(X.shape)) for _ in "ab")
    if first.max() > 1 + 1e-5:
        raise AnswerError("unclipped")
    factors = first[..., 0].flatten(1) / 0.5  # (n, places)
    factor, free = factors[:, 0], first[:, 0, 0, 1] < 1 - 1e-4
    if not _same(factors, factor[:, None].expand_as(factors)):
        of_channel = first[..., :1, :1].expand_as(first) / 0.5
        alike = _same(first[..., 0] / 0.5, of_channel[..., 0])
        raise AnswerError("channels" if alike else "pixels")
    moved = first[:, 0, 0] - X[:, 0, 0]  # (n, 2)
    known = free & ((factor - 1).abs() > 1e-3)  # neither clipped nor left alone
    if known.any() and _same(moved[known, 0], moved[known, 1]):
        raise AnswerError("added")
    if not _same(first[:, 0, 0, 1], (0.9 * factor).clamp(0, 1)):
        raise AnswerError("other")
    if _same(factor, factor[:1].expand_as(factor)):
        raise AnswerError("together")
    if torch.equal(first, second):
        raise AnswerError("frozen")
    if factor.min() < 1 - amount - 1e-4 or factor.max() > 1 + amount + 1e-4:
        raise AnswerError("range", found=f"{factor.min():.2f} to {factor.max():.2f}")
    if abs(factor.mean() - 1) > SIGMAS * amount / (3 * N) ** 0.5:
        raise AnswerError("centre", found=f"{factor.mean():.2f}")
    if not _even(factor.histc(10, 1 - amount, 1 + amount)):
        raise AnswerError("uneven")


def _two_views(answer: Callable) -> None:
    X = torch.rand(5, 3, 4, 4)
    weight = torch.randn(6, 48)

    def net(X: torch.Tensor) -> torch.Tensor:
        return F.linear(X.flatten(1), weight)

    right = (net(X).softmax(1) + net(X.flip(3)).softmax(1)) / 2
    found = _called(answer, net, X)
    if isinstance(found, torch.Tensor) and found.shape == (5,):
        raise AnswerError("labels")
    found = _tensor(answer, net, X, shape=(5, 6))
    for _ in range(20):
        if not _same(_tensor(answer, net, X, shape=(5, 6)), found):
            raise AnswerError("drawn")
    mistakes = {
        "plain": net(X).softmax(1),
        "mirrored": net(X.flip(3)).softmax(1),
        "sum": 2 * right,
        "logits": (net(X) + net(X.flip(3))) / 2,
        "upside": (net(X).softmax(1) + net(X.flip(2)).softmax(1)) / 2,
    }
    for factor in (1, 2):  # the mean, or the sum
        if _same(found, (factor * mistakes["logits"]).softmax(1)):
            raise AnswerError("logits")
    _compare(found, right, mistakes)


def _held_out(answer: Callable) -> None:
    n, per_class = 400, 7
    y = torch.randperm(n) % 10  # 40 of each class

    def drawn(seed: int) -> list[int]:
        return _indices(_called(answer, y, per_class, seed))

    def check(found: list[int]) -> None:
        if found and not 0 <= min(found) <= max(found) < n:
            shown = f"{min(found)} to {max(found)}"
            raise AnswerError("range", last=n - 1, found=shown)
        if len(set(found)) < len(found):
            if max(found) < n // 10:
                raise AnswerError("within")
            raise AnswerError("twice", found=max(found.count(i) for i in found))
        counts = y[torch.tensor(found, dtype=torch.int64)].bincount(minlength=10)
        if (counts != per_class).any():
            shown = f"{min(counts)} to {max(counts)}"
            raise AnswerError("classes", found=shown, wanted=per_class)
        # By chance no picture of the last quarter: 0.75 ** 70, once in 10**8 times.
        if max(found) < 3 * n // 4:
            raise AnswerError("first")

    seeds = torch.randperm(1000)[:5].tolist()
    results = [drawn(seed) for seed in seeds]
    for result in results:
        check(result)
    if sorted(results[0]) != sorted(drawn(seeds[0])):
        raise AnswerError("unstable")
    if sorted(results[0]) == sorted(results[1]):
        raise AnswerError("seed")


def _turns(answer: Callable) -> None:
    epochs = []
    for epoch in range(4):
        flips = _tensor(answer, N, epoch, shape=(N,))
        if flips.dtype != torch.bool:
            raise AnswerError("type", wanted="a tensor of bool", got=_kind(flips))
        epochs.append(flips)
    first, second, third, fourth = epochs
    if all(flips.all() or not flips.any() for flips in epochs):
        raise AnswerError("together")
    part = first.double().mean().item()
    if abs(part - 0.5) > SIGMAS * 0.5 / N**0.5:
        raise AnswerError("part", found=f"{part:.0%}")
    if torch.equal(first, second):
        raise AnswerError("constant")
    # Of neighbours in a random order half are treated alike.
    alike = (first[1:] == first[:-1]).double().mean().item()
    if abs(alike - 0.5) > SIGMAS * 0.5 / (N - 1) ** 0.5:
        raise AnswerError("regular")
    if not torch.equal(second, ~first):
        raise AnswerError("independent")
    if not (torch.equal(third, first) and torch.equal(fourth, second)):
        raise AnswerError("epochs")


def _shards(answer: Callable) -> None:
    n, world_size = 103, 4

    def dealt(seed: int) -> list[list[int]]:
        return [_indices(_called(answer, n, r, world_size, seed)) for r in range(4)]

    shares, others = dealt(1), dealt(2)
    together = sorted(i for share in shares for i in share)
    if together and not 0 <= together[0] <= together[-1] < n:
        shown = f"{together[0]} to {together[-1]}"
        raise AnswerError("range", last=n - 1, found=shown)
    twice = len(together) - len(set(together))
    if twice:
        equal = len({len(share) for share in shares}) == 1
        key = "padded" if equal and twice < world_size else "twice"
        raise AnswerError(key, found=twice, n=n)
    missing = n - len(set(together))
    if missing:
        raise AnswerError("missing", found=missing, n=n)
    # A share in its order has one or two different steps, a shuffled one about 24.
    steps = {(b - a) % n for a, b in itertools.pairwise(shares[0])}
    if len(steps) < 10:
        raise AnswerError("unshuffled")
    if shares == others:
        raise AnswerError("seed")
    # Of 26 examples 6.6 +- 1.9 are in the share of another seed.
    if len(set(shares[0]) & set(others[0])) > 20:
        raise AnswerError("fixed")
    sizes = [len(share) for share in shares]
    if max(sizes) - min(sizes) > 1:
        raise AnswerError("uneven", found=max(sizes) - min(sizes))


def _better(answer: Callable) -> None:
    runs = _called(answer)
    if not isinstance(runs, list) or not all(isinstance(run, dict) for run in runs):
        raise AnswerError("type", wanted="a list of runs", got=_kind(runs))
    if not runs:
        raise AnswerError("empty")
    best = _best_of_lesson_8()
    for run in runs:
        if run.get("num_val"):
            raise AnswerError("data", found="training pictures that were held out")
        if run["data"] != best[0]["data"]:
            raise AnswerError("data", found=run["data"])
        for key, name in (("budget", "examples"), ("net", "parameters")):
            if run[name] > best[0][name]:
                raise AnswerError(key, found=run[name], wanted=best[0][name])
    if len({_settings(run) for run in runs}) > 1:
        raise AnswerError("several")
    runs = list({run["seed"]: run for run in runs}.values())
    if len(runs) < 3:
        raise AnswerError("few", found=len(runs), wanted=3)
    if _settings(runs[0]) == _settings(best[0]):
        raise AnswerError("same")
    ours, theirs = (
        torch.tensor([100 * run["test_acc"][-1] for run in group]).double()
        for group in (runs, best)
    )
    numbers = {"found": ours.mean().item(), "wanted": theirs.mean().item()}
    if ours.mean() <= theirs.mean():
        raise AnswerError("lower", **numbers)
    # The standard deviation of the difference of two means.
    spread = sum(accs.var() / len(accs) for accs in (ours, theirs)).sqrt().item()
    if ours.mean() - theirs.mean() < spread:
        raise AnswerError("noise", spread=spread, **numbers)


def _best_of_lesson_8() -> list[dict]:
    file = data_path("results") / "sample_policies.json"
    runs = json.loads(file.read_text(encoding="utf-8"))["runs"]
    return [run for run in runs if run["policy"] == "all"]


def _settings(run: dict) -> tuple:
    policy = {"all": "flip+rescale+color"}.get(run["policy"], run["policy"])
    mixed = (run.get("mixup_alpha", 0), run.get("cutmix_alpha", 0))
    names = ("net", "epochs", "batch_size", "lr", "weight_decay", "label_smoothing")
    return (policy, *mixed, *(run[name] for name in names))


def _mixed(answer: Callable) -> None:
    n, alpha = 400, 0.5
    x, y = torch.rand(n, 3, 5, 6), torch.randperm(n)  # labels all differ
    lams = [_own_lams(_called(answer, x, y, alpha), x, y) for _ in range(5)]
    if torch.equal(lams[0], lams[1]):
        raise AnswerError("frozen")
    lam = torch.cat(lams)
    variance = 1 / (4 * (2 * alpha + 1))
    if abs(lam.mean() - 0.5) > SIGMAS * (variance / len(lam)) ** 0.5:
        raise AnswerError("mean", found=lam.mean().item())
    # The spread of the variance of n draws is 0.71 times it, by the root of n.
    if abs(lam.var() - variance) > SIGMAS * 0.71 * variance / len(lam) ** 0.5:
        raise AnswerError("beta", wanted=variance, found=lam.var().item())


def _own_lams(result: object, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """The lambdas of one call, if all else of it is right."""
    n = len(y)
    try:
        mixed, y_a, y_b, lam = map(torch.as_tensor, result)
    except (TypeError, ValueError, RuntimeError):
        wanted = "mixed, y_a, y_b, lam"
        raise AnswerError("type", wanted=wanted, got=_kind(result)) from None
    if lam.numel() == 1 or (lam == lam.flatten()[0]).all():
        raise AnswerError("one")
    for tensor, shape in ((lam, (n,)), (mixed, x.shape), (y_a, (n,)), (y_b, (n,))):
        if tensor.shape != torch.Size(shape):
            raise AnswerError("shape", wanted=tuple(shape), got=tuple(tensor.shape))
    lam, mixed = lam.double(), mixed.detach().double().flatten(1)
    if lam.min() < 0 or lam.max() > 1:
        raise AnswerError("range", found=f"{lam.min():.2f} to {lam.max():.2f}")
    if not torch.equal(y_a, y):
        raise AnswerError("labels")
    pictures = x.double().flatten(1)
    partner, shown = _partner(mixed, lam, pictures)
    if partner is None:
        swapped, _ = _partner(mixed, 1 - lam, pictures)
        raise AnswerError("formula" if swapped is None else "swapped")
    if (partner == torch.arange(n))[shown].double().mean() > 0.5:
        raise AnswerError("unmixed")
    if partner[shown].unique().numel() != shown.sum():
        raise AnswerError("partners")
    if not torch.equal(y_b[shown], y[partner[shown]]):
        raise AnswerError("labels")
    return lam


def _partner(mixed, lam, pictures) -> tuple[torch.Tensor | None, torch.Tensor]:
    """Which picture was mixed into each; None if it is none; and where it shows."""
    shown, lam = lam < 0.99, lam[:, None]
    rest = (mixed - lam * pictures) / (1 - lam).clamp_min(0.01)
    distance, partner = torch.cdist(rest, pictures).min(1)
    return (partner if (distance[shown] < 1e-3).all() else None), shown


def _recall_precision(answer: Callable) -> None:
    def numbers(guess: torch.Tensor, truth: torch.Tensor) -> torch.Tensor:
        found = _called(answer, guess, truth)
        if not isinstance(found, tuple | list) or len(found) != 2:
            raise AnswerError("type", wanted="two numbers", got=_kind(found))
        return torch.tensor([float(value) for value in found])

    # 5 right among 8 that are true and 20 that are found: all numbers differ.
    order = torch.randperm(200)
    truth, guess = torch.zeros(2, 200, dtype=torch.bool)
    truth[order[:8]] = guess[order[3:23]] = True
    found = numbers(guess, truth)

    def right(guess: torch.Tensor, truth: torch.Tensor) -> torch.Tensor:
        hits = (guess & truth).sum()
        return torch.stack([hits / truth.sum(), hits / guess.sum()])

    expected, negatives = right(guess, truth), right(~guess, ~truth)
    accuracy = (guess == truth).float().mean()
    if not _same(found, expected):
        if _same(found, expected.flip(0)):
            raise AnswerError("swapped")
        if (found - accuracy).abs().min() < 1e-5:
            raise AnswerError("accuracy")
        if (found[:, None] - negatives).abs().min() < 1e-5:
            raise AnswerError("negatives")
        raise AnswerError("other")
    nothing = torch.zeros(5, dtype=torch.bool)
    for g, t in ((nothing, ~nothing), (~nothing, nothing)):
        try:
            found = numbers(g, t)
        except AnswerError as wrong:
            if "ZeroDivisionError" not in str(wrong.values.get("error")):
                raise
            raise AnswerError("nan", found="a ZeroDivisionError") from wrong
        if not _same(found, torch.zeros(2)):
            raise AnswerError("nan", found=[round(v, 3) for v in found.tolist()])


CHECKS: dict[str, Callable[[Callable], None]] = {
    "1.1": _flip,
    "2.1": _crop,
    "3.1": _brightness,
    "4.1": _two_views,
    "5.1": _held_out,
    "6.1": _turns,
    "7.1": _shards,
    "8.1": _better,
    "9.1": _mixed,
    "10.1": _recall_precision,
}
