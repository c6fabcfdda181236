"""Run the experiments of lessons 9 and 10 that take too long for a lesson.

    python -m tools.experiments.questions --question 3 10 12 --results questions.json

Started again, the command runs only what the file lacks.
"""

import argparse
import itertools
import shlex
import sys
from collections.abc import Callable, Container, Iterator
from pathlib import Path

import torch
from torch import nn
from torch.nn import functional as F

from d2lext import batch
from d2lext.cifar10 import make_loader
from d2lext.compare import augmentations, small_net
from d2lext.images import read_cifar10
from d2lext.mixup import AdditiveMarginHead, FocalLoss, mixup_criterion, mixup_data
from d2lext.multi_gpu import evaluate_accuracy_gpu, predict, try_all_gpus
from d2lext.questions import film, new_camera
from d2lext.runs import Results, hardware
from d2lext.train import Config, train

CAT, DOG = 3, 5  # numbers of classes
Rows = Iterator[tuple[str, dict]]
Done = Container[str]  # variants that are recorded already


def data() -> tuple[torch.Tensor, ...]:
    """X, y, X_test, y_test."""
    return (*read_cifar10(True)[:2], *read_cifar10(False)[:2])


def fit(
    *data, seed: int, policy="none", seen=20_000, widths=Config.widths, **how
) -> tuple:
    """Train a net on this many images; return it and its accuracies."""
    config = Config(policy, seed, max(1, round(seen / len(data[1]))), widths=widths)
    net, _, run = train(config, data=data, **how)
    return net, {"test_acc": run["test_acc"][-1], "plain_acc": run["plain_acc"]}


def outputs(net: nn.Module, X: torch.Tensor) -> torch.Tensor:
    """The net's outputs for images (n, 32, 32, 3): (n, classes), before softmax."""
    device = try_all_gpus()[0]
    net.eval()
    with torch.no_grad():
        parts = X.permute(0, 3, 1, 2).to(device).split(1000)
        return torch.cat([predict(net, batch.to_float(p), device) for p in parts]).cpu()


def shuffled(n: int, seed: int) -> torch.Tensor:
    return torch.randperm(n, generator=torch.Generator().manual_seed(seed))


def some(y: torch.Tensor, per_class: int, seed: int) -> torch.Tensor:
    """Indices of equally many random images of each class."""
    order = shuffled(len(y), seed)
    return torch.cat([order[y[order] == k][:per_class] for k in range(10)])


class Only(batch.Transform):
    """Augment only some images of a data set, anew each time: chosen, (n,) of bool."""

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


def found(score: torch.Tensor, truth: torch.Tensor) -> dict:
    """Recall and precision at the threshold 1/2, and the average precision."""
    called, ranked = score > 0.5, truth[score.argsort(descending=True)].double()
    precisions = ranked.cumsum(0) / torch.arange(1, len(ranked) + 1)
    hits = (called & truth).sum().item()
    return {
        "recall": hits / truth.sum().item(),
        "precision": hits / max(1, called.sum().item()),
        "average_precision": (precisions @ ranked / ranked.sum()).item(),
    }


def rare(seed: int, done: Done, number: int = 20, times: int = 20) -> Rows:
    """Cat or not, with 20 cats among 1,800 others in training (question 3)."""
    X, y, X_test, y_test = data()
    others, cats = (y != CAT).nonzero().flatten(), some(y, number, seed)
    cats = cats[y[cats] == CAT]
    y, y_test = (y == CAT).long(), (y_test == CAT).long()
    few, repeated = torch.cat([others, cats]), torch.cat([others, cats.repeat(times)])
    plain, strong = augmentations("none"), augmentations("all")
    heavy = torch.ones(10)
    heavy[1] = times
    for variant, i, augs, weight in (
        ("as they are", few, plain, None),
        ("all are augmented", few, strong, None),
        (f"cats weigh {times} times", few, plain, heavy),
        (f"cats weigh {times} times, all are augmented", few, strong, heavy),
        ("cats repeated", repeated, plain, None),
        (
            "cats repeated, they are augmented",
            repeated,
            Only(strong, y[repeated] == 1),
            None,
        ),
        ("cats repeated, all are augmented", repeated, strong, None),
    ):
        if variant in done:
            continue
        how = {"seed": seed, "augs": augs, "weight": weight}
        net, _ = fit(X[i], y[i], X_test, y_test, **how)
        yield variant, found(outputs(net, X_test).softmax(1)[:, 1], y_test == 1)


def told(seed: int, done: Done, number: int = 4000) -> Rows:
    """A net that tells augmented images from original ones (question 7).

    It trains on pairs of this many images, for flips also three times as long.
    """
    X = data()[0]
    clean = X[shuffled(len(X), seed)[:number]].permute(0, 3, 1, 2)
    once = dict.fromkeys(("flip", "crop", "rescale", "color"), 40_000)
    for variant, seen in (once | {"flip, longer": 120_000}).items():
        if variant in done:
            continue
        policy = variant.partition(",")[0]
        torch.manual_seed(seed)
        changed = batch.to_float(augmentations(policy)(clean)).mul(255).round().byte()
        both = torch.stack([clean, changed], 1).permute(0, 1, 3, 4, 2)
        learn, ask = (
            both[: -number // 4].flatten(0, 1),
            both[-number // 4 :].flatten(0, 1),
        )
        label = torch.arange(len(learn)) % 2
        four = learn, label, ask, label[: len(ask)]
        yield variant, fit(*four, seed=seed, seen=seen, widths=(16, 32, 32))[1]


def video(seed: int, done: Done, per_class: int = 20, frames: int = 10) -> Rows:
    """Few images, clips of them, or as many different images (question 10)."""
    X, y, *test = data()
    i, many = some(y, per_class, seed), some(y, per_class * frames, seed)
    torch.manual_seed(seed)
    clips = film(X[i], frames), y[i].repeat_interleave(frames)
    for variant, (X_train, y_train) in {
        f"{len(i)} images": (X[i], y[i]),
        f"{len(i)} clips of {frames} frames": clips,
        f"{len(many):,} images": (X[many], y[many]),
    }.items():
        for words, policy in (("", "none"), (", augmented", "all")):
            if variant + words not in done:
                numbers = fit(X_train, y_train, *test, seed=seed, policy=policy)[1]
                yield variant + words, numbers


class TiltBlurDark(batch.Transform):
    """The changes of the new camera, each with random strength."""

    def draw(self, n, height, width, generator=None):
        drawn = torch.rand(3, n, generator=generator)
        return {
            "tilt": 60 * drawn[0] - 30,
            "blur": drawn[1],
            "light": 0.3 + 0.7 * drawn[2],
        }

    def apply(self, X, params):
        X, tilt = batch.to_float(X), params["tilt"].deg2rad().to(X.device)
        blur, light = (
            params[k].to(X.device).view(-1, 1, 1, 1) for k in ("blur", "light")
        )
        rows = tilt.cos(), -tilt.sin(), 0 * tilt, tilt.sin(), tilt.cos(), 0 * tilt
        theta = torch.stack(rows, 1).view(-1, 2, 3)
        grid = F.affine_grid(theta, X.shape, align_corners=False)
        X = F.grid_sample(X, grid, align_corners=False)
        blurred = F.avg_pool2d(F.pad(X, (1, 1, 1, 1), mode="replicate"), 3, 1)
        return torch.lerp(X, blurred, blur) * light


def deployment(seed: int, done: Done, tests: int = 500, new: int = 500) -> Rows:
    """A camera that training has not seen, or has seen a little of (question 12)."""
    X, y, *_ = data()
    held, pool, old = shuffled(len(y), seed).split([tests, new, len(y) - tests - new])
    for number in (0, new // 25, new // 5, new):
        images = torch.cat([X[old], new_camera(X[pool[:number]])])
        labels = torch.cat([y[old], y[pool[:number]]])
        test = new_camera(X[held]), y[held]
        for policy in ("none", "all", "made for it"):
            if (variant := f"{number} new, {policy}") in done:
                continue
            augs = TiltBlurDark() if policy == "made for it" else augmentations(policy)
            net, numbers = fit(images, labels, *test, seed=seed, augs=augs)
            right = outputs(net, X[held]).argmax(1) == y[held]
            numbers["old_camera"] = right.float().mean().item()
            yield variant, numbers


def crops(seed: int, done: Done, number: int = 5000) -> Rows:
    """Resized crops, by the smallest area that they may have (question 13)."""
    X, y, *test = data()
    i = shuffled(len(y), 0)[:number]
    pets = (test[1] == CAT) | (test[1] == DOG)
    for area in (1, 0.6, 0.3, 0.08, 0.02):
        if f"{area:g}" in done:
            continue
        crop = batch.RandomResizedCrop(32, scale=(area, 1), ratio=(1, 1))
        augs = batch.Compose([batch.RandomHorizontalFlip(), crop])
        net, numbers = fit(X[i], y[i], *test, seed=seed, augs=augs, seen=80_000)
        swapped = outputs(net, test[0]).argmax(1) == CAT + DOG - test[1]
        yield f"{area:g}", numbers | {"cat_dog": swapped[pets].float().mean().item()}


def margin(seed: int, done: Done, epochs: int = 12) -> Rows:
    """Mix a head's outputs before the losses, or the losses alone (lesson 9)."""
    X, y, X_test, y_test = data()
    device = try_all_gpus()[0]
    test_iter = make_loader(X_test, y_test, augmentations("none"), 250, device=device)
    for variant in ("losses mixed", "outputs and losses mixed"):
        if variant in done:
            continue
        torch.manual_seed(seed)
        how = {"shuffle": True, "device": device}
        train_iter = make_loader(X, y, augmentations("flip+crop"), 128, **how)
        backbone = small_net(X.permute(0, 3, 1, 2))[:-2]  # without its own head
        net = nn.Sequential(backbone, AdditiveMarginHead(64, 10, 10.0, 0.2)).to(device)
        head, loss = net[1], FocalLoss()
        weights = [p for p in net.parameters() if p.requires_grad]
        trainer = torch.optim.AdamW(weights, 0.002)
        for inputs, targets in itertools.chain(*[train_iter] * epochs):
            inputs, *labels, lam = mixup_data(inputs, targets, 0.5)
            f = backbone(inputs)
            mixed = mixup_criterion(head, f, *labels, lam)
            pred = [mixed if "outputs" in variant else head(f, y) for y in labels]
            a, b = (loss(p, y) for p, y in zip(pred, labels, strict=True))
            trainer.zero_grad()
            (lam * a + (1 - lam) * b).backward()
            trainer.step()
        yield variant, {"test_acc": evaluate_accuracy_gpu(net, test_iter, device)}


QUESTIONS: dict[int | str, Callable[[int, Done], Rows]] = {
    3: rare,
    7: told,
    10: video,
    12: deployment,
    13: crops,
    "margin": margin,
}


def main(argv: list[str] | None = None) -> int:
    argv = sys.argv[1:] if argv is None else argv
    parser = argparse.ArgumentParser(
        prog="python -m tools.experiments.questions",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--question",
        type=lambda word: int(word) if word.isdigit() else word,
        nargs="+",
        choices=QUESTIONS,
        required=True,
    )
    parser.add_argument("--seed", type=int, nargs="+", default=[0, 1, 2, 3, 4])
    parser.add_argument("--results", type=Path, required=True)
    args = parser.parse_args(argv)
    about = {"data": read_cifar10(True).source.kind} | hardware(try_all_gpus()[0])
    try:
        command = "python -m tools.experiments.questions " + shlex.join(argv)
        results = Results(args.results, command, ("question", "variant", "seed"))
        for question, seed in itertools.product(args.question, args.seed):
            of = {"question": question, "seed": seed}
            kept = [r for r in results.read() if of.items() <= r.items()]
            for variant, numbers in QUESTIONS[question](
                seed, [r["variant"] for r in kept]
            ):
                rounded = {name: round(value, 5) for name, value in numbers.items()}
                results.add(of | {"variant": variant} | rounded | about)
                print(f"question {question}, seed {seed}, {variant}", flush=True)
    except KeyboardInterrupt:
        print("questions: stopped; finished runs are recorded", file=sys.stderr)
        return 130
    except (ValueError, OSError, FloatingPointError) as error:
        print(f"questions: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
