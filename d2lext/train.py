"""Train a net on CIFAR-10, or on the bundled sample, from the command line.

In one process, or, unchanged, in as many as `torchrun` starts:

    python -m d2lext.train --policy flip+crop --epochs 10
    torchrun --standalone --nproc-per-node=8 -m d2lext.train --net resnet18

With several policies, seeds or alphas every combination is trained, one after the
other; with mixup and CutMix, each batch is mixed one way or the other by chance.
Each run is added to data/runs.jsonl. --results collects the runs in a file as well,
and trains only what that file does not have yet.
"""

import argparse
import contextlib
import dataclasses
import datetime
import functools
import itertools
import json
import math
import os
import shlex
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
import torch.distributed as dist
from filelock import FileLock
from torch import nn
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader

from d2lext.batch import Transform
from d2lext.compare import augmentations, init_weights, resnet18, small_net
from d2lext.images import read_cifar10
from d2lext.mixup import (
    calibration_bins,
    cutmix_data,
    expected_calibration_error,
    mixup_data,
    train_batch_mixup,
)
from d2lext.multi_gpu import (
    History,
    Point,
    ShardedBatches,
    bf16_is_fast,
    evaluate_accuracy_gpu,
    predict,
    sum_over_processes,
    train_batch_ch13,
    train_epochs,
    try_all_gpus,
)
from d2lext.runs import curves, describe, record_run

NETS = ("small", "resnet18")
# Chosen with --num-val 5000, by the accuracy on those.
PRESETS = {
    "laptop": {
        "policy": ["alternate+crop2"],
        "epochs": 11,
        "widths": [32, 96, 96],
    },
    "gpu": {
        "policy": ["alternate+crop2"],
        "epochs": 10,
        "widths": [64, 256, 256],
        "batch_size": 1000,
        "lr": 1e-2,
    },
}
KEYS = ("policy", "seed", "epochs", "test_acc")  # of a run, and of no other record
TEST_BATCH = 250
PLAIN = 10_000  # training pictures that the net is evaluated on in the end
TIMEOUT = datetime.timedelta(minutes=5)  # to wait for a process that does not answer


@dataclasses.dataclass(frozen=True)
class Config:
    """All that a run depends on, besides the data and the machine."""

    policy: str = "flip+crop"
    seed: int = 0
    epochs: int = 12
    net: str = "small"
    widths: tuple[int, ...] = (32, 64, 64)  # of the small net
    batch_size: int = 128  # over all processes
    lr: float = 5e-3
    weight_decay: float = 0.05
    label_smoothing: float = 0.1
    mixup_alpha: float = 0.0  # 0: no mixup
    cutmix_alpha: float = 0.0  # with both, each batch is mixed one way or the other
    num_train: int | None = None  # None: all pictures there are
    num_val: int = 0  # training pictures held out, evaluated in place of the test set
    amp: bool | None = None  # bfloat16 or not; None: where it is fast


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
) -> Trained:
    """Train one net as `config` says; in every process, if there is a process group.

    device: default the first GPU, else the CPU; root: as for `read_cifar10`; watch:
    called at the end of each epoch; data: X uint8 (n, 32, 32, 3), y int64 (n,), and the
    same two for testing, in place of CIFAR-10; augs: in place of the policy. With
    `checkpoint` the state is written there after every epoch, and `resume` goes on
    from it if it is there. AdamW, with a learning rate that rises to `lr` in the first
    quarter and then falls (Smith and Topin, arXiv:1708.07120). The run is recorded,
    also one that was interrupted.

    Raises ValueError for a config that cannot be and for a checkpoint of another run,
    FloatingPointError for a loss that is not finite.
    """
    start = time.perf_counter()
    _check(config)
    device = torch.device(device or try_all_gpus()[0])
    X, y, X_test, y_test, source = _pictures(config, root, data)
    augs_given = augs is not None
    augs = augs or augmentations(config.policy)
    train_iter = _loader(X, y, device, augs, config.batch_size, config.seed)
    train_iter.dataset.source = source
    test_iter = _loader(X_test, y_test, device)
    plain_iter = _loader(X[:PLAIN], y[:PLAIN], device)
    torch.manual_seed(config.seed)
    net = _make_net(config, X).to(device, memory_format=torch.channels_last)
    trainer = _make_trainer(config, net)
    scheduler = _make_scheduler(config, trainer, len(train_iter))
    state = {"net": net, "trainer": trainer, "scheduler": scheduler}
    history = _restore(checkpoint, config, state) if checkpoint and resume else None
    history = history or History()
    before = history[-1] if history else None
    run = describe(net, train_iter, device) | dataclasses.asdict(config)
    if augs_given:
        run["policy"] = repr(augs)
    run["bf16"] = bf16_is_fast(device) if config.amp is None else config.amp
    run["processes"] = dist.get_world_size() if dist.is_initialized() else 1
    _seed_epoch(config, len(history))
    points = train_epochs(
        _parallel(net, device),
        train_iter,
        test_iter,
        nn.CrossEntropyLoss(reduction="none", label_smoothing=config.label_smoothing),
        trainer,
        config.epochs,
        [device],
        scheduler,
        config.amp,
        first=len(history),
        train_batch=_train_batch(config),
    )
    try:
        for point in points:
            if point.test_acc is None:
                continue
            history.append(_after(before, point))
            watch(history[-1])
            if checkpoint and _is_first():
                _save(Path(checkpoint), config, state, history)
            _seed_epoch(config, len(history))
        plain_acc = evaluate_accuracy_gpu(net, plain_iter, device, config.amp)
        run["plain_acc"] = round(plain_acc, 5)
        run |= _calibration(net, test_iter, device, config.amp)
        run["wall_seconds"] = round(time.perf_counter() - start, 1)  # loading too
    finally:  # also of a run that was interrupted
        run |= curves(history)
        if history and _is_first():
            record_run(run)
    return Trained(net, history, run)


def _check(config: Config) -> None:
    augmentations(config.policy)
    if config.net not in NETS:
        raise ValueError(f"net: expected {' or '.join(NETS)}, got {config.net!r}")
    counts = {"epochs": config.epochs, "batch_size": config.batch_size}
    if config.num_train is not None:
        counts["num_train"] = config.num_train
    for name, value in counts.items():
        if value < 1:
            raise ValueError(f"{name}: expected a whole number >= 1, got {value}")
    if config.num_val < 0:
        raise ValueError(f"num_val: expected a whole number >= 0, got {config.num_val}")
    if min(config.widths) < 1:
        raise ValueError(f"widths: expected whole numbers >= 1, got {config.widths}")
    if not 0 <= config.label_smoothing <= 1:
        raise ValueError(
            f"label_smoothing: expected 0 to 1, got {config.label_smoothing}"
        )
    if not config.lr > 0:
        raise ValueError(f"lr: expected a number > 0, got {config.lr}")
    for name in ("mixup_alpha", "cutmix_alpha"):
        value = getattr(config, name)
        if not 0 <= value < math.inf:
            raise ValueError(f"{name}: expected a finite number >= 0, got {value}")


def _pictures(config: Config, root, data):
    """X, y, X_test, y_test, and which data these are."""
    if data is not None:
        return *data, "pictures of a caller"
    X, y, _, source = read_cifar10(True, root)
    X, y, X_val, y_val = _split(X, y, config, source)
    if config.num_val:
        return X, y, X_val, y_val, source
    return X, y, *read_cifar10(False, root)[:2], source


def _split(X, y, config: Config, source: str):
    """Training pictures and labels, then those that are held out."""
    number = config.num_train or len(y) - config.num_val
    if number < 1 or number + config.num_val > len(y):
        raise ValueError(
            f"num_train: {config.num_train or 'all'} wanted, and num_val: "
            f"{config.num_val} to hold out; {len(y)} are there: {source}"
        )
    if number == len(y):
        return X, y, None, None
    # The same ones for every seed, and not the first ones, which may be of one class.
    order = torch.randperm(len(y), generator=torch.Generator().manual_seed(0))
    some, held = order[:number], order[len(y) - config.num_val :]
    return X[some], y[some], X[held], y[held]


def _loader(X, y, device, augs=None, batch_size=TEST_BATCH, seed=None):
    """Batches of this process; shuffled if there is a seed."""
    dataset = (augs or augmentations("none")).dataset(X, y, device)
    batches = ShardedBatches(len(y), batch_size, seed is not None, seed or 0)
    return DataLoader(dataset, batch_sampler=batches)


def _make_net(config: Config, X: torch.Tensor) -> nn.Module:
    if config.net == "resnet18":
        return resnet18(10, 3).apply(init_weights)
    return small_net(X.permute(0, 3, 1, 2), widths=config.widths)


def _make_trainer(config: Config, net: nn.Module) -> torch.optim.Optimizer:
    weights = [p for p in net.parameters() if p.requires_grad]
    groups = [
        {"params": [p for p in weights if p.ndim > 1]},
        # Biases and batch norm's scales are few, and pulling them to 0 does harm.
        {"params": [p for p in weights if p.ndim == 1], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(
        groups, config.lr, weight_decay=config.weight_decay, fused=True
    )


def _make_scheduler(config, trainer, num_batches):
    return torch.optim.lr_scheduler.OneCycleLR(
        trainer,
        config.lr,
        total_steps=max(5, config.epochs * num_batches),  # fewer have no quarter
        pct_start=0.25,
        div_factor=10,
        final_div_factor=100,
    )


def _train_batch(config: Config) -> Callable:
    """What does a step: plainly, or with mixup, CutMix, or either by chance."""
    mixes = {mixup_data: config.mixup_alpha, cutmix_data: config.cutmix_alpha}
    ways = [
        functools.partial(train_batch_mixup, alpha=alpha, mix=mix)
        for mix, alpha in mixes.items()
        if alpha > 0
    ]
    if not ways:
        return train_batch_ch13

    def train_batch(*args):
        return ways[int(torch.randint(len(ways), ()))](*args)

    return train_batch


def _calibration(net, test_iter, device, amp) -> dict:
    """Test loss, calibration, and accuracy with the mirrored picture as a second view.

    Of the whole test set, also in several processes.
    """
    net.eval()
    losses, bins, hits = [], [], 0
    with torch.no_grad():
        for X, y in test_iter:
            pred = predict(net, X, device, amp).cpu()
            l = nn.functional.cross_entropy(pred, y.cpu(), reduction="sum")
            losses.append(l.item())
            bins.append(calibration_bins(pred, y))
            mirrored = predict(net, X.flip(3), device, amp).cpu()
            views = pred.softmax(1) + mirrored.softmax(1)
            hits += (views.argmax(1) == y.cpu()).sum().item()
    here = sum(bins)  # (num_bins, 3): of this process
    total, hits, *numbers = sum_over_processes(
        [sum(losses), hits, *here.flatten().tolist()], device
    )
    bins = torch.tensor(numbers, dtype=torch.float64).reshape(here.shape)
    count = bins[:, 0].sum().item()
    return {
        "test_loss": round(total / count, 5),
        "tta_acc": round(hits / count, 5),
        "ece": round(expected_calibration_error(bins), 5),
        "bins": [[int(n), round(c, 4), int(h)] for n, c, h in bins.tolist()],
    }


def _seed_epoch(config: Config, epoch: int) -> None:
    """So that an epoch draws the same, whether the run was resumed before it or not."""
    rank = dist.get_rank() if dist.is_initialized() else 0
    mixed = np.random.SeedSequence([config.seed, epoch, rank]).generate_state(1)
    torch.manual_seed(int(mixed[0]))


def _parallel(net: nn.Module, device: torch.device) -> nn.Module:
    if not dist.is_initialized():
        return net
    ids = [device.index] if device.type == "cuda" else None
    return DistributedDataParallel(net, device_ids=ids)


def _is_first() -> bool:
    return not dist.is_initialized() or dist.get_rank() == 0


def _after(before: Point | None, point: Point) -> Point:
    """Count what was done before the run was resumed."""
    if before is None:
        return point
    return point._replace(
        examples=before.examples + point.examples,
        seconds=before.seconds + point.seconds,
    )


# Checkpoints


def _save(path: Path, config: Config, state: dict, history: History) -> None:
    """Under another name first: being killed here leaves the last one whole."""
    saved = {name: part.state_dict() for name, part in state.items()}
    saved |= {
        "config": dataclasses.asdict(config),
        "history": list(map(tuple, history)),
    }
    part = path.with_name(path.name + ".part")
    torch.save(saved, part)
    os.replace(part, path)


def _restore(path: str | os.PathLike, config: Config, state: dict) -> History | None:
    if not Path(path).exists():
        if _is_first():
            print(f"note: no checkpoint {path} yet, so training starts anew")
        return None
    try:
        saved = torch.load(path, map_location="cpu", weights_only=True)
        theirs, history = saved["config"], saved["history"]
    except Exception as error:  # what half a file makes torch.load raise depends on it
        raise ValueError(
            f"checkpoint {path}: cannot be read ({error}); delete it to start anew"
        ) from error
    ours = dataclasses.asdict(config)
    theirs = dataclasses.asdict(Config()) | theirs  # it may be of an older version
    other = [
        f"{name} was {theirs[name]!r}, is {value!r}"
        for name, value in ours.items()
        if theirs[name] != value
    ]
    if other:
        raise ValueError(
            f"checkpoint {path}: is of another run ({'; '.join(other)}); give the same "
            "options, or another checkpoint"
        )
    for name, part in state.items():
        part.load_state_dict(saved[name])
    return History(Point(*numbers) for numbers in history)


# The command


@contextlib.contextmanager
def _process_group() -> Iterator[torch.device]:
    """Join the other processes, if torchrun started this one; the device to use."""
    gpus = torch.cuda.device_count()
    if "RANK" not in os.environ or "WORLD_SIZE" not in os.environ:
        yield try_all_gpus()[0]
        return
    device = torch.device("cpu")
    if gpus:
        local = int(os.environ.get("LOCAL_RANK", 0))
        if local >= gpus:
            raise ValueError(
                f"--nproc-per-node: process {local + 1} of this machine has no GPU, "
                f"there are {gpus}; start as many processes as GPUs"
            )
        device = torch.device("cuda", local)
        torch.cuda.set_device(device)
    dist.init_process_group("nccl" if gpus else "gloo", timeout=TIMEOUT)
    try:
        yield device
    finally:
        dist.destroy_process_group()


class Results:
    """Runs in a JSON file, written after each; several commands may share it."""

    def __init__(self, path: Path, command: str, keys: tuple[str, ...]) -> None:
        self.path, self.keys = path, keys
        self.content = {"command": command, "runs": []}
        self._read()

    def _read(self) -> None:
        if not self.path.exists():
            return
        try:
            runs = json.loads(self.path.read_text("utf-8"))["runs"]
            for run in runs:
                for key in self.keys:
                    run[key]
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(
                f"--results {self.path}: holds no runs of this command "
                f"({type(error).__name__}: {error}); name another file"
            ) from error
        self.content["runs"] = runs

    def has(self, config: Config) -> bool:
        wanted = json.loads(json.dumps(dataclasses.asdict(config)))
        default = dataclasses.asdict(Config())  # for what the run did not know yet
        return any(
            all(run.get(n, default[n]) == value for n, value in wanted.items())
            and len(run["test_acc"]) == config.epochs
            for run in self.content["runs"]
        )

    def add(self, *runs: dict) -> None:
        """Add all of them, or, if this is killed, none."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(f"{self.path}.lock"):
            self._read()  # what another command has added
            self.content["runs"] += runs
            part = self.path.with_name(self.path.name + ".part")
            part.write_text(_one_run_a_line(self.content), encoding="utf-8")
            os.replace(part, self.path)


def _one_run_a_line(content: dict) -> str:
    runs = ",\n".join(map(json.dumps, content["runs"]))
    return f'{{"command": {json.dumps(content["command"])}, "runs": [\n{runs}\n]}}\n'


def _parse(argv: list[str]) -> argparse.Namespace:
    parser = _parser()
    preset = parser.parse_args(argv).preset
    if preset:
        parser.set_defaults(**PRESETS[preset])
    return parser.parse_args(argv)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m d2lext.train",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    default = Config()

    def add(name, help, **more):
        value = more.pop("default", getattr(default, name.replace("-", "_"), None))
        shown = "" if value is None else f" (default: {value})"
        parser.add_argument(f"--{name}", default=value, help=help + shown, **more)

    add(
        "preset",
        "settings for a result in little time, which other options can change",
        choices=PRESETS,
        default=None,
    )
    add(
        "policy",
        "none, all, or parts joined by +: flip, alternate, crop, crop2, rescale, "
        "color, erase, trivialaugment, randaugment",
        nargs="+",
        metavar="POLICY",
    )
    add("seed", "of the net, the shuffling and the augmentation", nargs="+", type=int)
    add("epochs", "passes over the training pictures", type=int)
    add("net", "which net", choices=NETS)
    add("widths", "channels of the small net's groups", nargs=3, type=int)
    add("batch-size", "pictures per step, over all processes", type=int)
    add("lr", "highest learning rate of AdamW", type=float)
    add("weight-decay", "of AdamW", type=float)
    add("label-smoothing", "of the loss", type=float)
    add("mixup-alpha", "of mixup; 0: none", nargs="+", type=float)
    add("cutmix-alpha", "of CutMix; 0: none", nargs="+", type=float)
    add("num-train", "training pictures to use (default: all)", type=int)
    add(
        "num-val",
        "training pictures to hold out and evaluate in place of the test set",
        type=int,
    )
    parser.add_argument(
        "--no-amp", dest="amp", action="store_false", default=None, help="no bfloat16"
    )
    add("root", "folder with CIFAR-10 (default: as the lessons)", type=Path)
    add("checkpoint", "file for the state after each epoch", type=Path)
    parser.add_argument(
        "--resume", action="store_true", help="go on from the checkpoint, if it exists"
    )
    add("results", "JSON file that collects the runs", type=Path)
    return parser


def _configs(args: argparse.Namespace) -> list[Config]:
    names = {field.name for field in dataclasses.fields(Config)}
    given = {name: value for name, value in vars(args).items() if name in names}
    given["widths"] = tuple(given["widths"])
    several = ("policy", "mixup_alpha", "cutmix_alpha", "seed")
    listed = (
        given[name] if isinstance(given[name], list) else [given[name]]
        for name in several
    )
    return [
        Config(**given | dict(zip(several, values, strict=True)))
        for values in itertools.product(*listed)
    ]


def _run_all(args: argparse.Namespace, device: torch.device, command: str) -> None:
    configs = _configs(args)
    for config in configs:
        _check(config)  # now, not after hours
    if args.checkpoint and len(configs) > 1:
        raise ValueError(
            f"--checkpoint: is for one run, and there are {len(configs)}; use --results"
        )
    if args.resume and not args.checkpoint:
        raise ValueError("--resume: needs --checkpoint, the file to go on from")
    results = Results(args.results, command, KEYS) if args.results else None
    # Before the first run, so that all processes decide the same.
    missing = [c for c in configs if not (results and results.has(c))]
    for config in missing:

        def watch(point: Point, config: Config = config) -> None:
            _say(
                f"{config.policy}, seed {config.seed}, "
                f"epoch {point.epoch:.0f}/{config.epochs}: loss {point.loss:.3f}, "
                f"train acc {point.train_acc:.3f}, test acc {point.test_acc:.3f}, "
                f"{point.seconds:.1f} s"
            )

        _, history, run = train(
            config, device, args.root, args.checkpoint, args.resume, watch
        )
        if results and _is_first():
            results.add(run)
        rate = history[-1].examples / history[-1].seconds
        several = "es" if run["processes"] > 1 else ""
        _say(f"{rate:,.0f} examples/sec, {run['processes']} process{several}, {device}")
    if len(missing) < len(configs):
        _say(f"{len(configs) - len(missing)} runs were in {args.results} already")


def _say(words: str) -> None:
    if _is_first():
        print(words, flush=True)


def main(argv: list[str] | None = None) -> int:
    argv = sys.argv[1:] if argv is None else argv
    args = _parse(argv)
    try:
        with _process_group() as device:
            _run_all(args, device, "python -m d2lext.train " + shlex.join(argv))
    except KeyboardInterrupt:
        print("train: stopped; what was measured is recorded", file=sys.stderr)
        return 130
    except (ValueError, OSError, FloatingPointError) as error:
        print(f"train: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
