"""10.1: recall and precision."""

import torch

from d2lext.course.exercises import Answer, AnswerError, integers, kind, same

WORDS = {
    "right": "found among the true ones, and true among the found ones.",
    "swapped": "the two are exchanged: recall comes first.",
    "accuracy": "one of them is the accuracy: the share of right answers, which "
    "is high as soon as positives are rare.",
    "negatives": "one of them is computed for the negatives.",
    "nan": "where nothing is found, or nothing is there, the number should be 0; "
    "found {found}.",
}


def check(answer: Answer) -> None:
    for n in (50, 101, *integers(30, 300, 6)):
        # All numbers differ: 5 right, of 8 that are true and 12 that are found.
        order, (there, found) = torch.randperm(n), integers(7, 12, 2)
        truth, guess = torch.zeros(2, n, dtype=torch.bool)
        truth[order[:there]] = guess[order[there - 5 : there - 5 + found]] = True
        _compare(_numbers(answer, guess, truth), guess, truth)
    none, some = torch.zeros(5, dtype=torch.bool), torch.arange(5) < 2
    for guess, truth in ((none, some), (some, none), (none, none), (some, ~some)):
        try:
            numbers = _numbers(answer, guess, truth)
        except AnswerError as wrong:
            if "ZeroDivisionError" not in str(wrong.values.get("error")):
                raise
            raise AnswerError("nan", found="a ZeroDivisionError") from wrong
        if not same(numbers, torch.zeros(2)):
            raise AnswerError("nan", found=[round(v, 3) for v in numbers.tolist()])


def _numbers(answer: Answer, guess: torch.Tensor, truth: torch.Tensor) -> torch.Tensor:
    found = answer(guess, truth)
    pair = isinstance(found, tuple | list | torch.Tensor) and len(found) == 2
    if not pair:
        raise AnswerError("type", wanted="two numbers", got=kind(found))
    return torch.tensor([float(value) for value in found])


def _right(guess: torch.Tensor, truth: torch.Tensor) -> torch.Tensor:
    hits = (guess & truth).sum()
    return torch.stack([hits / truth.sum(), hits / guess.sum()])


def _compare(found: torch.Tensor, guess: torch.Tensor, truth: torch.Tensor) -> None:
    expected, negatives = _right(guess, truth), _right(~guess, ~truth)
    accuracy = (guess == truth).float().mean()
    if same(found, expected):
        return
    if same(found, expected.flip(0)):
        raise AnswerError("swapped")
    if (found - accuracy).abs().min() < 1e-5:
        raise AnswerError("accuracy")
    if (found[:, None] - negatives).abs().min() < 1e-5:
        raise AnswerError("negatives")
    raise AnswerError("other")
