"""1.1: a flip from indexing."""

import torch

from d2lext.course.exercises import Answer, AnswerError, integers, kind, match, same

WORDS = {
    "right": "an index that runs backwards along the width mirrors all images.",
    "same": "the images came back as they were.",
    "part": "some images are mirrored, and others are not. Mirror all, in every call.",
    "upside": "the rows run backwards; only the columns should.",
    "channels": "the colour channels were exchanged, not the columns.",
    "order": "the images come in another order.",
    "middle": "with an odd width the middle column is wrong.",
}


def check(answer: Answer) -> None:
    mirrored = set()
    for i in range(32):
        n, (h, w) = 2 + i % 3, integers(3, 8, 2)
        X = torch.rand(n, 3, h, w)
        mirrored |= _flipped(answer, (256 * X).byte() if i % 2 else X)
    mirrored |= _flipped(answer, X[:1])
    if False in mirrored:
        raise AnswerError("part" if True in mirrored else "same")


def _flipped(answer: Answer, X: torch.Tensor) -> set[bool]:
    """Whether images are mirrored or left as they were; anything else raises."""
    Y, right = answer.tensor(X, shape=X.shape), X.flip(3)
    if Y.dtype != X.dtype:
        raise AnswerError("type", wanted=kind(X), got=kind(Y))
    pairs = [(same(y, r), same(y, x)) for x, y, r in zip(X, Y, right, strict=True)]
    if all(map(any, pairs)):
        return {flipped for flipped, _ in pairs}
    middle, half = right.clone(), X.shape[3] // 2
    middle[..., half] = Y[..., half]
    match(
        Y,
        right,
        ("upside", X.flip(2)),
        ("upside", X.flip((2, 3))),
        ("channels", X.flip(1)),
        ("order", X.flip(0)),
        ("order", X.flip((0, 3))),
        ("middle", middle),
    )
    return {True}
