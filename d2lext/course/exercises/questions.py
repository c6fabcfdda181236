"""10.1: recall and precision."""

import torch

from d2lext.course import exercises as ex

WORDS = {
    "right": "recall counts hits among the true ones, precision among the found ones.",
    "swapped": "your function returns precision first. Return recall, then precision.",
    "accuracy": "one of your numbers is the accuracy, which is high wherever "
    "positives are rare. Count only positives.",
    "negatives": "one of your numbers counts negatives. Count only positives.",
    "nan": "if nothing was found, or there was nothing to find, return 0; got {found}.",
}


def check(answer: ex.Answer) -> None:
    for n in (50, 101, *ex.integers(30, 300, 6)):
        # 5 hits among 7 to 12 true and 7 to 12 found ones; all numbers differ.
        order, (there, found) = torch.randperm(n), ex.integers(7, 12, 2)
        truth, guess = torch.zeros(2, n, dtype=torch.bool)
        truth[order[:there]] = guess[order[there - 5 : there - 5 + found]] = True
        _judge(_numbers(answer, guess, truth), guess, truth)
    none, some = torch.zeros(5, dtype=torch.bool), torch.arange(5) < 2
    for guess, truth in ((none, some), (some, none), (none, none), (some, ~some)):
        try:
            numbers = _numbers(answer, guess, truth)
        except ex.AnswerError as wrong:
            error = "ZeroDivisionError"
            ex.refuse("nan", error in str(wrong.values.get("error")), found=error)
            raise
        shown = [round(float(v), 3) for v in numbers]
        ex.refuse("nan", any(shown), found=shown)


def _numbers(answer: ex.Answer, *masks: torch.Tensor) -> torch.Tensor:
    found = answer(*masks)
    if not isinstance(found, tuple | list | torch.Tensor) or len(found) != 2:
        raise ex.AnswerError("type", wanted="two numbers", got=ex.kind(found))
    return torch.tensor([float(value) for value in found])


def _judge(found: torch.Tensor, guess: torch.Tensor, truth: torch.Tensor) -> None:
    hits, rest = (guess & truth).sum(), (~guess & ~truth).sum()
    right = torch.stack([hits / truth.sum(), hits / guess.sum()])
    negatives = torch.stack([rest / (~truth).sum(), rest / (~guess).sum()])
    if not ex.same(found, right):
        accuracy = (hits + rest) / len(truth)
        ex.refuse("accuracy", (found - accuracy).abs().min() < 1e-5)
        ex.refuse("negatives", (found[:, None] - negatives).abs().min() < 1e-5)
    ex.match(found, right, {"swapped": [right.flip(0)]})
