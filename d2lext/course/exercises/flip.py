"""1.1: a flip from indexing."""

import torch

from d2lext.course import exercises as ex

WORDS = {
    "right": "an index that runs backwards along the width mirrors every image.",
    "same": "the images came back unchanged. Reverse their columns.",
    "part": "your function leaves some images unmirrored. Mirror all, in every call.",
    "dimension": "your function reverses the images, the channels or the rows. Reverse "
    "only the columns.",
}
CALLS = 100  # for each number of images, to catch an occasional missing flip


def check(answer: ex.Answer) -> None:
    mirrored = []
    shapes = [(n, *ex.integers(3, 8, 2)) for n in [2, 3, 1, 4] * CALLS]
    for n, h, w in shapes + [(1, 3, w) for w in ex.integers(257, 500, 2)]:
        for X in (torch.rand(n, 3, h, w), torch.randint(256, (n, 3, h, w)).byte()):
            Y = answer.tensor(X, shape=X.shape)
            ex.refuse("type", Y.dtype != X.dtype, wanted=ex.kind(X), got=ex.kind(Y))
            for x, y in zip(X, Y, strict=True):
                mirrored.append(torch.equal(y, x.flip(2)))
                if not (mirrored[-1] or torch.equal(y, x)):
                    others = [X.flip(k) for k in (0, 1, 2, (0, 3), (1, 3), (2, 3))]
                    ex.match(Y, X.flip(3), {"dimension": others})
    ex.refuse("part" if any(mirrored) else "same", not all(mirrored))
