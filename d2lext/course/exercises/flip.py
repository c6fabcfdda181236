"""1.1: a flip from indexing."""

import torch

from d2lext.course import exercises as ex

WORDS = {
    "right": "an index that runs backwards along the width mirrors every image.",
    "same": "the images came back unchanged. Reverse their columns.",
    "part": "your function leaves some images unmirrored. Mirror all, in every call.",
    "upside": "your function reverses the rows. Reverse only the columns.",
    "channels": "your function reverses the colour channels. Reverse only the columns.",
    "order": "your function reorders the images. Reverse only the columns.",
    "middle": "where the width is odd, your middle column is wrong.",
}
CALLS = 100  # for each number of images, to catch an occasional missing flip


def check(answer: ex.Answer) -> None:
    mirrored = []
    shapes = [(n, *ex.integers(3, 8, 2)) for n in [2, 3, 1, 4] * CALLS]
    for n, h, w in shapes + [(1, 3, w) for w in ex.integers(257, 500, 2)]:
        for X in (torch.rand(n, 3, h, w), torch.randint(256, (n, 3, h, w)).byte()):
            Y = answer.tensor(X, shape=X.shape)
            ex.refuse("type", Y.dtype != X.dtype, wanted=ex.kind(X), got=ex.kind(Y))
            right, middle = X.flip(3), X.flip(3)
            middle[..., w // 2] = Y[..., w // 2]
            images = [torch.equal(*pair) for pair in zip(Y, right, strict=True)]
            mirrored += images
            left = [torch.equal(*pair) for pair in zip(Y, X, strict=True)]
            if not all(map(max, images, left)):
                mistakes = {"upside": [X.flip(2), X.flip((2, 3))], "middle": [middle]}
                mistakes |= {"order": [X.flip(0), X.flip((0, 3))]}
                ex.match(Y, right, mistakes | {"channels": [X.flip(1)]})
    ex.refuse("part" if any(mirrored) else "same", not all(mirrored))
