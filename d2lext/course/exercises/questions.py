"""10.1: recall and precision."""

import torch

from d2lext.course import exercises as ex

WORDS = {
    "right": "recall counts hits among the true ones, precision among the found ones.",
    "swapped": "your function returns precision first. Return recall, then precision.",
    "negatives": "one of your numbers counts negatives, as the accuracy does. Count "
    "only positives.",
    "nan": "if nothing was found, or there was nothing to find, return 0; got {found}.",
}


def check(answer: ex.Answer) -> None:
    cases = []
    for n in (50, 101, *ex.integers(30, 300, 6)):
        # 5 hits among 7 to 12 true and 7 to 12 found ones; all numbers differ.
        order, (there, found) = torch.randperm(n), ex.integers(7, 12, 2)
        truth, guess = torch.zeros(2, n, dtype=torch.bool)
        truth[order[:there]] = guess[order[there - 5 : there - 5 + found]] = True
        cases.append((guess, truth))
    none, some = torch.zeros(5, dtype=torch.bool), torch.arange(5) < 2
    cases += [(none, some), (some, none), (none, none), (some, ~some)]
    for guess, truth in cases:
        found = answer(guess, truth)
        if not isinstance(found, tuple | list | torch.Tensor) or len(found) != 2:
            raise ex.AnswerError("type", wanted="two numbers", got=ex.kind(found))
        found = torch.tensor([float(value) for value in found])
        hits, rest = (guess & truth).sum(), (~guess & ~truth).sum()
        ex.refuse("nan", found.any() and not hits, found=found.tolist())
        right = hits / torch.stack([truth.sum(), guess.sum()]).clamp(min=1)
        if not ex.same(found, right):
            sums = torch.stack(
                [(~truth).sum(), (~guess).sum(), torch.tensor(len(truth))]
            )
            wrong = torch.stack([rest, rest, hits + rest]) / sums
            ex.refuse("negatives", (found[:, None] - wrong).abs().min() < 1e-5)
        ex.match(found, right, {"swapped": [right.flip(0)]})
