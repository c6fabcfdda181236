"""The experiments of lesson 10 that take longer than a lesson may.

    python -m tools.experiments.questions --question 3 10 12 --results questions.json

Started again, the command does only what the file does not have yet.
"""

import argparse
import shlex
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from torch import nn
from torch.nn import functional as F

from d2lext import batch
from d2lext.compare import augmentations
from d2lext.images import read_cifar10
from d2lext.multi_gpu import predict, try_all_gpus
from d2lext.runs import hardware
from d2lext.train import Config, Results, train

CAT, DOG = 3, 5  # numbers of classes
SEEN = 20_000  # training pictures that each run sees, repeated as often as it takes
Rows = Iterator[tuple[str, dict]]


def _fit(X, y, X_test, y_test, seed: int, policy="none", seen=SEEN, augs=None):
    """The net, and its run."""
    epochs = max(1, round(seen / len(y)))
    config = Config(policy, seed, epochs)
    net, _, run = train(config, data=(X, y, X_test, y_test), augs=augs)
    return net, run


def _labels(net: nn.Module, X: torch.Tensor) -> torch.Tensor:
    """What the net takes pictures (n, 32, 32, 3) for: (n,)."""
    device = try_all_gpus()[0]
    net.eval()
    with torch.no_grad():
        parts = X.permute(0, 3, 1, 2).to(device).split(1000)
        return torch.cat(
            [predict(net, batch.to_float(p), device).argmax(1) for p in parts]
        ).cpu()


def _acc(run: dict) -> dict:
    return {"test_acc": run["test_acc"][-1]}


def _bytes(X: torch.Tensor) -> torch.Tensor:
    """Augmented pictures (n, 3, h, w), as they would lie on a disk: (n, h, w, 3)."""
    X = X if X.dtype == torch.uint8 else (X * 255).round().byte()
    return X.permute(0, 2, 3, 1).contiguous()


def _some(y: torch.Tensor, per_class: int, seed: int) -> torch.Tensor:
    """Indices of as many pictures of each class, drawn by the seed."""
    order = torch.randperm(len(y), generator=torch.Generator().manual_seed(seed))
    return torch.cat([order[y[order] == k][:per_class] for k in range(10)])


class Only(batch.Transform):
    """Augment, anew each time, only some pictures of a data set.

    chosen: (n,) of bool, for each image of the data set. Of a batch without a data
    set it cannot know which images these are, and takes them for the first ones.
    """

    def __init__(self, transform: batch.Transform, chosen: torch.Tensor) -> None:
        self.transform, self.chosen = transform, chosen

    def draw_for(self, i, epoch, height, width, generator=None):
        inner = self.transform.draw_for(i, epoch, height, width, generator)
        return {"inner": inner, "chosen": self.chosen[i]}

    def draw(self, n, height, width, generator=None):
        return self.draw_for(torch.arange(n), 0, height, width, generator)

    def apply(self, X, params):
        changed = batch.to_float(self.transform.apply(X, params["inner"]))
        chosen = params["chosen"].to(X.device).view(-1, 1, 1, 1)
        return torch.where(chosen, changed, batch.to_float(X))


def rare(seed: int, number: int = 20, times: int = 20) -> Rows:
    """Cat or not, where training has 20 cats among 1,800 others (question 3)."""
    X, y, *_ = read_cifar10(True)
    X_test, y_test, *_ = read_cifar10(False)
    others = (y != CAT).nonzero().flatten()
    cats = _some(y, number, seed)
    cats = cats[y[cats] == CAT]
    y, y_test = (y == CAT).long(), (y_test == CAT).long()
    repeated = torch.cat([others, cats.repeat(times)])
    plain, strong = augmentations("none"), augmentations("all")
    for variant, i, augs in (
        ("as they are", torch.cat([others, cats]), plain),
        ("cats repeated", repeated, plain),
        ("cats repeated, they are augmented", repeated, Only(strong, y[repeated] == 1)),
        ("cats repeated, all are augmented", repeated, strong),
    ):
        net, _ = _fit(X[i], y[i], X_test, y_test, seed, augs=augs)
        found = _labels(net, X_test) == 1
        hits = (found & (y_test == 1)).sum().item()
        yield (
            variant,
            {
                "recall": hits / (y_test == 1).sum().item(),
                "precision": hits / max(1, found.sum().item()),
            },
        )


def film(X: torch.Tensor, frames: int = 10) -> torch.Tensor:
    """Each picture (n, 32, 32, 3) as a clip, n * frames pictures, picture by picture.

    The camera wanders by a pixel between two frames, and the light by 5%.
    """
    n, spare = len(X), 4
    padded = F.pad(X.permute(0, 3, 1, 2).float(), (spare,) * 4, mode="replicate")
    place, light = torch.full((n, 2), spare), torch.ones(n)
    clips = []
    for _ in range(frames):
        windows = [
            x[:, i : i + 32, j : j + 32]
            for x, (i, j) in zip(padded, place.tolist(), strict=True)
        ]
        shown = torch.stack(windows) * light.reshape(-1, 1, 1, 1)
        clips.append(_bytes(shown.clamp(0, 255).round().byte()))
        place = (place + torch.randint(-1, 2, (n, 2))).clamp(0, 2 * spare)
        light = (light + 0.05 * torch.randint(-1, 2, (n,))).clamp(0.6, 1.2)
    return torch.stack(clips, 1).flatten(0, 1)


def video(seed: int, per_class: int = 20, frames: int = 10) -> Rows:
    """Few pictures, clips of them, or as many different pictures (question 10)."""
    X, y, *_ = read_cifar10(True)
    test = read_cifar10(False)[:2]
    i = _some(y, per_class, seed)
    torch.manual_seed(seed)
    clips = film(X[i], frames), y[i].repeat_interleave(frames)
    many = _some(y, per_class * frames, seed)
    for variant, data in {
        f"{len(i)} pictures": (X[i], y[i]),
        f"{len(i)} clips of {frames} frames": clips,
        f"{len(many):,} pictures": (X[many], y[many]),
    }.items():
        yield variant, _acc(_fit(*data, *test, seed)[1])
        yield variant + ", augmented", _acc(_fit(*data, *test, seed, "all")[1])


def new_camera(X: torch.Tensor) -> torch.Tensor:
    """Pictures (n, 32, 32, 3) as another camera sees them: tilted, blurred, dark."""
    from torchvision.transforms.v2 import functional

    X = functional.rotate(X.permute(0, 3, 1, 2).float(), 20)
    X = F.avg_pool2d(F.pad(X, (1, 1, 1, 1), mode="replicate"), 3, 1)
    return _bytes((0.5 * X).round().byte())


def deployment(seed: int, tests: int = 500, new: int = 500) -> Rows:
    """A camera that training has not seen, or has seen a little of (question 12)."""
    X, y, *_ = read_cifar10(True)
    order = torch.randperm(len(y), generator=torch.Generator().manual_seed(seed))
    held, pool, old = order[:tests], order[tests : tests + new], order[tests + new :]
    same, other = (X[held], y[held]), (new_camera(X[held]), y[held])
    for number in (0, new // 25, new // 5, new):
        pictures = torch.cat([X[old], new_camera(X[pool[:number]])])
        labels = torch.cat([y[old], y[pool[:number]]])
        for policy in ("none", "all"):
            net, run = _fit(pictures, labels, *other, seed, policy)
            old_camera = (_labels(net, same[0]) == same[1]).float().mean().item()
            yield f"{number} new, {policy}", _acc(run) | {"old_camera": old_camera}


def crops(seed: int, number: int = 5000, seen: int = 80_000) -> Rows:
    """Resized crops, by the smallest area that they may have (question 13)."""
    X, y, *_ = read_cifar10(True)
    X_test, y_test, *_ = read_cifar10(False)
    order = torch.randperm(len(y), generator=torch.Generator().manual_seed(0))
    i = order[:number]
    for area in (1, 0.6, 0.3, 0.08, 0.02):
        augs = batch.Compose(
            [
                batch.RandomHorizontalFlip(),
                batch.RandomResizedCrop(32, scale=(area, 1), ratio=(1, 1)),
            ]
        )
        net, run = _fit(X[i], y[i], X_test, y_test, seed, seen=seen, augs=augs)
        guess = _labels(net, X_test)
        swapped = sum(
            (guess[y_test == a] == b).float().mean().item()
            for a, b in ((CAT, DOG), (DOG, CAT))
        )
        yield (
            f"{area:g}",
            _acc(run) | {"plain_acc": run["plain_acc"], "cat_dog": swapped / 2},
        )


QUESTIONS: dict[int, Callable[[int], Rows]] = {
    3: rare,
    10: video,
    12: deployment,
    13: crops,
}


def main(argv: list[str] | None = None) -> int:
    argv = sys.argv[1:] if argv is None else argv
    parser = argparse.ArgumentParser(
        prog="python -m tools.experiments.questions",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--question", type=int, nargs="+", choices=QUESTIONS, required=True
    )
    parser.add_argument("--seed", type=int, nargs="+", default=[0, 1, 2, 3, 4])
    parser.add_argument("--results", type=Path, required=True)
    args = parser.parse_args(argv)
    about = hardware(try_all_gpus()[0])
    try:
        command = "python -m tools.experiments.questions " + shlex.join(argv)
        results = Results(args.results, command, ("question", "variant", "seed"))
        done = {(row["question"], row["seed"]) for row in results.content["runs"]}
        for question in args.question:
            for seed in args.seed:
                if (question, seed) in done:
                    continue
                data = read_cifar10(True).source.kind
                rows = [
                    {
                        "question": question,
                        "variant": variant,
                        "seed": seed,
                        "data": data,
                    }
                    | {name: round(value, 5) for name, value in numbers.items()}
                    | about
                    for variant, numbers in QUESTIONS[question](seed)
                ]
                results.add(*rows)
                print(f"question {question}, seed {seed}: done", flush=True)
    except KeyboardInterrupt:
        print("questions: stopped; what was measured is recorded", file=sys.stderr)
        return 130
    except (ValueError, OSError, FloatingPointError) as error:
        print(f"questions: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
