"""Train a net on CIFAR-10, or on the bundled sample, from the command line.

The same command trains in one process, or in as many as `torchrun` starts:

    python -m d2lext.train --policy flip+crop --epochs 10
    torchrun --standalone --nproc-per-node=8 -m d2lext.train --net resnet18

Given several policies, seeds or alphas, it trains every combination in turn. With both
mixup and CutMix, each batch is mixed one way or the other at random. Each run is added
to data/runs.jsonl. With --results, a file of your own collects the runs, too, and runs
that it already has are skipped.
"""

import argparse
import dataclasses
import functools
import itertools
import os
import shlex
import sys
import time
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import nn

from d2lext import expect, mixup, multi_gpu
from d2lext.augment import Transform
from d2lext.cifar10 import make_loader
from d2lext.compare import PARTS, augmentations, init_weights, resnet18, small_net
from d2lext.images import Images, read_cifar10, read_sample
from d2lext.multi_gpu import History, Point, train_batch_ch13, try_all_gpus
from d2lext.places import print_any_name
from d2lext.runs import Results, curves, describe, record_run
from d2lext.train import checkpoints, processes
from d2lext.train.muon import Muon

NETS, OPTIMIZERS = ("small", "resnet18"), ("adamw", "muon")
_LAPTOP = {"policy": ["alternate+crop1"], "epochs": 7, "widths": [32, 96, 96]}
_GPU = {"policy": ["alternate+crop2"], "epochs": 10, "widths": [64, 256, 256]}
PRESETS = {  # the first chosen on held-out images, the second not measured
    "laptop": _LAPTOP | {"optimizer": "muon"},
    "gpu": _GPU | {"batch_size": 1000, "lr": 1e-2},
}
TEST_BATCH = 250
PLAIN = 10_000  # training images for the final evaluation
SEVERAL = ("policy", "mixup_alpha", "cutmix_alpha", "seed")  # take several values
_STRENGTHS = ", ".join(f"{k}{','.join(map(str, v[1:]))}" for k, v in PARTS.items())


def _field(default: object, words: str, check: Callable | None = None, *limits):
    """A setting with its text in `--help` and its check in d2lext.expect."""
    metadata = {"help": words, "check": check, "limits": limits}
    return dataclasses.field(default=default, metadata=metadata)


@dataclasses.dataclass(frozen=True)
class Config:
    """All settings of a run; beside them, only data and machine matter.

    amp: whether to use bfloat16; None: if it is fast. Raises ValueError for a field.
    """

    policy: str = _field("flip+crop", f"none, all, or parts joined by +: {_STRENGTHS}")
    seed: int = _field(0, "seed of the net, the shuffling and the augmentation")
    epochs: int = _field(12, "passes over the training images", expect.integer)
    net: str = _field("small", " or ".join(NETS), expect.choice, NETS)
    widths: tuple[int, ...] = _field(
        (32, 64, 64), "channels of the small net's three groups", expect.integers, (3,)
    )
    batch_size: int = _field(128, "images per step, over all processes", expect.integer)
    optimizer: str = _field("adamw", " or ".join(OPTIMIZERS), expect.choice, OPTIMIZERS)
    lr: float = _field(5e-3, "peak rate; Muon takes 10 times that", expect.number, 1e-9)
    weight_decay: float = _field(0.05, "weight decay of AdamW", expect.number)
    label_smoothing: float = _field(0.1, "smoothing of the labels", expect.number, 0, 1)
    mixup_alpha: float = _field(0.0, "alpha of mixup; 0 for no mixup", expect.number)
    cutmix_alpha: float = _field(0.0, "alpha of CutMix; 0 for no CutMix", expect.number)
    mix_prob: float = _field(1.0, "fraction of batches to mix", expect.number, 0, 1)
    plain_epochs: int = _field(0, "last epochs without mixing", expect.integer, 0)
    num_train: int | None = _field(None, "training images; None: all", expect.integer)
    num_val: int = _field(0, "held-out images to test on instead", expect.integer, 0)
    amp: bool | None = None

    def __post_init__(self) -> None:
        augmentations(self.policy)
        for field in dataclasses.fields(self)[1:-1]:
            check, value = field.metadata["check"], getattr(self, field.name)
            if check and value is not None:
                check(field.name, value, *field.metadata["limits"])


class Trained(NamedTuple):
    """A net, the history of its training, and the run as it was recorded."""

    net: nn.Module
    history: History
    run: dict


def train(
    config: Config,
    device: torch.device | str | None = None,
    root: str | os.PathLike | None = None,
    checkpoint: str | os.PathLike | None = None,
    resume: bool = False,
    watch: Callable[[Point], None] = lambda point: None,
    data: tuple[torch.Tensor, ...] | None = None,
    augs: Transform | None = None,
    weight: torch.Tensor | None = None,
    mark: dict | None = None,
) -> Trained:
    """Train one net with `config`, in every process if there is a process group.

    The learning rate rises to `lr` in the first quarter and then falls (Smith and
    Topin, arXiv:1708.07120); with Muon it falls linearly from the start. Every run is
    recorded, even an interrupted one.

    device: default: the first GPU, else the CPU.
    root: as for `read_cifar10`, or `Halves` that were read.
    checkpoint: a file for the state after each epoch; resume: start from it, if any.
    watch: called with the `Point` at the end of each epoch.
    data: X uint8 (n, 32, 32, 3), y int64 (n,), and the same for testing.
    augs: a transform to use instead of the policy.
    weight: the weight of each class in the loss, (10,) floats.
    mark: added to what is recorded.
    Raises ValueError for a checkpoint of another run and for processes that disagree,
    FloatingPointError for a loss that is not finite.
    """
    start = time.perf_counter()
    device = torch.device(device or try_all_gpus()[0])
    start -= root.seconds if isinstance(root, Halves) else 0.0
    X, y, X_test, y_test, about = processes.everywhere(_data, config, root, data)
    settings = dataclasses.asdict(config) | about
    settings["processes"] = len(processes.gather(None))
    if augs is not None:
        settings["policy"] = repr(augs)
    if weight is not None:
        settings["weight"], weight = weight.tolist(), weight.to(device)
    processes.agree(settings)
    saved = None
    if checkpoint:
        reopen = checkpoints.open_checkpoint
        saved = processes.first(reopen, checkpoint, resume, settings)
    augs = augs or augmentations(config.policy)
    train_iter = _loader(X, y, device, augs, config.batch_size, config.seed)
    test_iter = _loader(X_test, y_test, device)
    torch.manual_seed(config.seed)
    net = _make_net(config, X).to(device, memory_format=torch.channels_last)
    trainer = _make_trainer(config, net)
    scheduler = _make_scheduler(config, trainer, config.epochs * len(train_iter))
    state = {"net": net, "trainer": trainer, "scheduler": scheduler}
    history = checkpoints.restore(state, saved)
    first, done = len(history), history[-1] if history else Point(0, 0, 0, 0, 0, 0)
    run = describe(net, train_iter, device) | settings | (mark or {})
    run["bf16"] = multi_gpu.bf16_is_fast(device) if config.amp is None else config.amp
    smoothing = config.label_smoothing
    loss = nn.CrossEntropyLoss(weight, label_smoothing=smoothing, reduction="none")
    what = (processes.parallel(net, device), train_iter, test_iter, loss, trainer)
    how = (config.epochs, [device], scheduler, config.amp, first)
    points = multi_gpu.train_epochs(*what, *how, _train_batch(config, history))
    _seed_epoch(config, first)
    try:
        for point in points:
            if point.test_acc is None:
                continue
            # Count what the run did before it was resumed, too.
            total = (point.examples + done.examples, point.seconds + done.seconds)
            history.append(Point(*point[:4], *total))
            if checkpoint and not processes.rank():
                checkpoints.save(checkpoint, settings, state, history)
            watch(history[-1])
            _seed_epoch(config, len(history))
        run |= _evaluated(net, _loader(X[:PLAIN], y[:PLAIN], device), test_iter, config)
        if not first:  # including loading and evaluation
            run["wall_seconds"] = round(time.perf_counter() - start, 1)
    finally:  # also of an interrupted run
        run = curves(history) | run
        if len(history) > first and not processes.rank():
            record_run(run)
    return Trained(net, history, run)


# Data


class Halves(NamedTuple):
    """Training and test images, and how long it took to read them."""

    images: tuple[Images, Images]
    seconds: float


def _read(root) -> Halves:
    """The images below `root`; the sample only if no folder was named."""
    if isinstance(root, Halves):
        return root
    start = time.perf_counter()
    train, test = (read_cifar10(is_train, root) for is_train in (True, False))
    if train.source.kind == "sample" and train.source.detail:
        raise ValueError(
            f"root: {train.source.detail}; name another folder with --root or the "
            "variable D2LEXT_CIFAR10, or the bundled sample by the word sample"
        )
    return Halves((train, test), time.perf_counter() - start)


def _data(config: Config, root, data):
    """X, y, X_test, y_test, and a description of them, ready for JSON."""
    if data is None:
        *data, about = _choose(config, *_read(root).images)
    else:
        counts = {"train_images": len(data[1]), "test_images": len(data[3])}
        about = {"data": "given", **counts}
    checksum = 0
    for part in data:
        checksum = zlib.crc32(part.cpu().contiguous().numpy(), checksum)
    return *data, about | {"checksum": checksum}


def _choose(config: Config, train: Images, test: Images):
    """Select X, y, X_test, y_test from the data, and describe them."""
    X, y, _, source = train
    about = {"data": source.kind}
    if source.kind == "folder":
        about["format"] = source.detail.strip()
    # The same selection for every seed; the first images may all be of one class.
    mix = torch.Generator().manual_seed(0)
    order = torch.randperm(len(y), generator=mix, device="cpu")
    held = order[len(y) - config.num_val :]
    evaluated = (X[held], y[held]) if config.num_val else test[:2]
    if config.num_val and source.kind == "sample":
        # Made like the sample's test images; its training images vary less.
        held = ()
        evaluated = [part[: config.num_val] for part in read_sample("val")[:2]]
    number = config.num_train or len(y) - len(held)
    if number < 1 or number + len(held) > len(y) or len(evaluated[1]) < config.num_val:
        raise ValueError(
            f"num_train: {config.num_train or 'all'} wanted, and num_val: "
            f"{config.num_val} held out, but there are only {len(y)} images: {source}"
        )
    if number < len(y):
        X, y = X[order[:number]], y[order[:number]]
    about |= {"train_images": number, "test_images": len(evaluated[1])}
    return X, y, *evaluated, about


def _loader(X, y, device, augs=None, batch_size=TEST_BATCH, seed=None):
    """The batches of this process, shuffled if `seed` is given."""
    batches = multi_gpu.ShardedBatches(len(y), batch_size, seed is not None, seed or 0)
    augs = augs or augmentations("none")
    return make_loader(X, y, augs, device=device, batch_sampler=batches)


# Net and training


def _make_net(config: Config, X: torch.Tensor) -> nn.Module:
    if config.net == "resnet18":
        return resnet18(10, 3).apply(init_weights)
    return small_net(X.permute(0, 3, 1, 2), widths=config.widths)


def _make_trainer(config: Config, net: nn.Module) -> torch.optim.Optimizer:
    weights = [p for p in net.parameters() if p.requires_grad]
    groups = [
        {"params": [p for p in weights if p.ndim > 1]},
        # Biases and batch norm's scales are few, and decay would harm them.
        {"params": [p for p in weights if p.ndim == 1], "weight_decay": 0.0},
    ]
    kind = torch.optim.AdamW
    if config.optimizer == "muon":  # Muon for the filters, AdamW for the last layer
        kind, filters = Muon, [p for p in weights if p.ndim == 4]
        groups[0]["params"] = [p for p in weights if p.ndim == 2]
        groups.append({"params": filters, "lr": 10 * config.lr, "momentum": 0.6})
    fused = weights[0].device.type != "mps"
    return kind(groups, config.lr, weight_decay=config.weight_decay, fused=fused)


def _make_scheduler(config: Config, trainer, steps: int):
    if config.optimizer == "muon":
        return torch.optim.lr_scheduler.LinearLR(trainer, 1.0, 0.0, steps)
    return torch.optim.lr_scheduler.OneCycleLR(
        trainer,
        [group["lr"] for group in trainer.param_groups],
        total_steps=max(5, steps),  # fewer raise an error
        **{"pct_start": 0.25, "div_factor": 10, "final_div_factor": 100},
    )


def _train_batch(config: Config, history: History) -> Callable:
    """The function for a step: plain, with mixup, with CutMix, or either at random."""
    mixed = (
        (mixup.mixup_data, config.mixup_alpha),
        (mixup.cutmix_data, config.cutmix_alpha),
    )
    ways = [
        functools.partial(mixup.train_batch_mixup, mix=mix, alpha=alpha)
        for mix, alpha in mixed
        if alpha > 0
    ]

    def train_batch(*args):
        plain = len(history) >= config.epochs - config.plain_epochs
        if plain or (
            config.mix_prob < 1 and torch.rand((), device="cpu") >= config.mix_prob
        ):
            return train_batch_ch13(*args)
        return ways[int(torch.randint(len(ways), (), device="cpu"))](*args)

    return train_batch if ways else train_batch_ch13


def _evaluated(net, plain_iter, test_iter, config: Config) -> dict:
    """Accuracy on unaugmented training images; on test images loss, calibration, and
    accuracy with the mirrored image as a second view. Counts all processes."""
    device = next(net.parameters()).device
    plain_acc = multi_gpu.evaluate_accuracy_gpu(net, plain_iter, device, config.amp)
    loss, hits, bins = 0, 0, 0
    with torch.no_grad():
        for X, y in test_iter:
            views = (X, X.flip(3))
            preds = [multi_gpu.predict(net, v, device, config.amp).cpu() for v in views]
            y, both = y.cpu(), sum(pred.softmax(1) for pred in preds)
            loss += nn.functional.cross_entropy(preds[0], y, reduction="sum").item()
            hits += (both.argmax(1) == y).sum().item()
            bins = bins + mixup.calibration_bins(preds[0], y)  # (num_bins, 3)
    numbers = [loss, hits, *bins.flatten().tolist()]
    loss, hits, *numbers = multi_gpu.sum_over_processes(numbers, device)
    bins = torch.tensor(numbers, dtype=torch.float64).reshape(bins.shape)
    count = bins[:, 0].sum().item()
    return {
        "plain_acc": round(plain_acc, 5),
        "test_loss": round(loss / count, 5),
        "tta_acc": round(hits / count, 5),
        "ece": round(mixup.expected_calibration_error(bins), 5),
        "bins": [[int(n), round(c, 4), int(h)] for n, c, h in bins.tolist()],
    }


def _seed_epoch(config: Config, epoch: int) -> None:
    """Seed an epoch, so that it draws the same in a resumed run."""
    mixed = np.random.SeedSequence([config.seed, epoch, processes.rank()])
    torch.manual_seed(int(mixed.generate_state(1)[0]))


# The command


def _parse(argv: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m d2lext.train",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    preset = "settings for a good result in little time; other options override them"
    add("--preset", choices=PRESETS, help=preset)
    for field in dataclasses.fields(Config)[:-1]:
        default, several = field.default, field.name in SEVERAL
        add(
            f"--{field.name.replace('_', '-')}",
            type=type(default) if isinstance(default, str | float) else int,
            nargs="+" if several else 3 if field.name == "widths" else None,
            default=[default] if several else default,
            metavar=field.name.upper(),
            help=f"{field.metadata['help']} (default: {default})",
        )
    add(
        "--no-amp",
        dest="amp",
        action="store_false",
        default=None,
        help="do not use bfloat16",
    )
    add("--device", help="cpu, cuda, cuda:1, mps (default: the first GPU, else cpu)")
    add(
        "--root",
        type=Path,
        help="folder with CIFAR-10, or sample (default: as in the lessons)",
    )
    add("--checkpoint", type=Path, help="file for the state after each epoch")
    add(
        "--resume", action="store_true", help="resume from the checkpoint, if it exists"
    )
    add("--results", type=Path, help="JSON file that collects the runs")
    if preset := parser.parse_args(argv).preset:
        parser.set_defaults(**PRESETS[preset])
    return parser.parse_args(argv)


def _configs(args: argparse.Namespace) -> list[Config]:
    given = {f.name: getattr(args, f.name) for f in dataclasses.fields(Config)}
    given["widths"] = tuple(given["widths"])
    return [
        Config(**given | dict(zip(SEVERAL, values, strict=True)))
        for values in itertools.product(*(given[name] for name in SEVERAL))
    ]


def _run_all(args: argparse.Namespace, device: torch.device, command: str) -> None:
    configs = _configs(args)
    if args.checkpoint and len(configs) > 1:
        raise ValueError(
            f"--checkpoint: takes one run, but there are {len(configs)}; use --results"
        )
    if args.resume and not args.checkpoint:
        raise ValueError("--resume: needs --checkpoint, the file to resume from")
    processes.agree(vars(args) | {"root": None})  # each may keep its data elsewhere
    halves = processes.everywhere(_read, args.root)
    _say("\n".join(f"data: {half.source}" for half in halves.images))
    results, left = None, {"done": 0, "busy": 0}
    if args.results:
        keys = [field.name for field in dataclasses.fields(Config)]
        keys += ["data", "train_images", "test_images"]
        results = processes.first(Results, args.results, command, keys)
    for config in configs:
        about = processes.everywhere(_choose, config, *halves.images)[-1]
        wanted = dataclasses.asdict(config) | about
        claim = processes.first(results.claim, wanted) if results else "free"
        if claim == "free":
            _run_one(config, args, device, results, halves)
        else:
            left[claim] += 1
    told = {"done": "already in", "busy": "left to another command that writes"}
    for claim, words in told.items():
        if left[claim]:
            _say(f"{words} {args.results}: {left[claim]} of {len(configs)} runs")


def _run_one(config: Config, args, device, results: Results | None, halves: Halves):
    def watch(point: Point) -> None:
        epoch = f"epoch {point.epoch:.0f}/{config.epochs}"
        name = f"{config.policy}, seed {config.seed}, {epoch}"
        _say(f"{name}: {point}, {point.seconds:.1f} s")

    try:
        how = (device, halves, args.checkpoint, args.resume, watch)
        run = train(config, *how).run
        if results and not processes.rank():
            results.add(run)
    finally:
        if results:
            results.release()
    rate = run["examples"] / run["seconds"]
    _say(f"{rate:,.0f} examples/sec, processes: {run['processes']}, {device}")


def _say(words: str) -> None:
    if not processes.rank():
        print(words, flush=True)


def main(argv: list[str] | None = None) -> int:
    print_any_name()
    argv = sys.argv[1:] if argv is None else argv
    args = _parse(argv)
    try:
        with processes.process_group(args.device) as device:
            _run_all(args, device, "python -m d2lext.train " + shlex.join(argv))
        return 0
    except KeyboardInterrupt:
        print("train: stopped; finished epochs are recorded", file=sys.stderr)
        code = 130
    except (ValueError, OSError, FloatingPointError) as error:
        print(f"train: {error}", file=sys.stderr)
        code = 1
    if (
        torch.distributed.is_initialized()
    ):  # exit at once: other processes may be waiting
        sys.stderr.flush()
        os._exit(code)
    return code
