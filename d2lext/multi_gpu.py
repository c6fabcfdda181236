"""Collected from notebooks/07_multi_gpu.ipynb, where it is explained.

Edit the lesson, then run `python -m tools.collect`.
"""

# fmt: off
import functools
import math
import time
import warnings
from contextlib import nullcontext
from typing import NamedTuple

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import Sampler, get_worker_info

from d2lext import draw, expect
from d2lext.runs import curves, describe, record_run
from d2lext.threads import on_free_cores


# 07_multi_gpu.ipynb: save-devices
@functools.cache
def _computes(gpu):
    """Return whether a tiny operation on a GPU succeeds; tried once per process."""
    try:
        return bool(torch.ones(2, device=gpu).sum() == 2)
    except (RuntimeError, AssertionError) as error:
        reason, built = str(error).partition("\n")[0], torch.cuda.get_arch_list()
        warnings.warn(
            f"{gpu} is not used: {reason} (This PyTorch has code for "
            f"{' '.join(built) or 'no GPU'}; 2.14 for CUDA 12.6 was the last for sm_50 "
            "to sm_70, see https://pytorch.org/get-started/previous-versions)",
            stacklevel=3)
        return False


def try_all_gpus() -> list[torch.device]:
    """Return every GPU that can compute, or [cpu] if there is none (d2l 6.7)."""
    if get_worker_info() is not None:  # a loader's worker should start no GPU
        return [torch.device("cpu")]
    gpus = [torch.device("cuda", i) for i in range(torch.cuda.device_count())]
    return list(filter(_computes, gpus)) or [torch.device("cpu")]


# 07_multi_gpu.ipynb: save-bf16
def bf16_is_fast(device: torch.device) -> bool:
    """Return whether a device has bfloat16 (AMX, AVX512-BF16, a recent GPU)."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    probes = ("_is_amx_tile_supported", "_is_avx512_bf16_supported")
    return device.type == "cpu" and any(getattr(torch.cpu, p, bool)() for p in probes)


# 07_multi_gpu.ipynb: save-to-device
def to_device(X, device, dtype=None):
    """Return X (or a list of X) on device, floats as dtype, images channels last."""
    if isinstance(X, list):
        return [to_device(x, device, dtype) for x in X]
    dtype = dtype if X.is_floating_point() else None
    layout = torch.channels_last if X.ndim == 4 else torch.preserve_format
    cuda = torch.device(device).type == "cuda"
    X = X.pin_memory() if cuda and X.device.type == "cpu" else X
    # Only CUDA skips waiting: Apple's GPU may read a copy before it is complete.
    return X.to(device, dtype or X.dtype, non_blocking=cuda, memory_format=layout)


# 07_multi_gpu.ipynb: save-predict
class _InBfloat16(nn.Sequential):
    """A net under autocast to bfloat16, whichever thread calls it."""

    def forward(self, X):
        kind = (X[0] if isinstance(X, list) else X).device.type
        with torch.autocast(kind, torch.bfloat16):
            return super().forward(X)


def predict(net, X, device, amp=None):
    """Return net(X), never as bfloat16; amp: as for `train_batch_ch13`."""
    device = torch.device(device)
    weight = next(net.parameters(), None) if isinstance(net, nn.Module) else None
    X = to_device(X, device, getattr(weight, "dtype", None))
    amp = bf16_is_fast(device) if amp is None else amp
    if amp and isinstance(net, nn.DataParallel):
        # Its threads use autocast as well, but with the default type, float16.
        net = nn.DataParallel(_InBfloat16(net.module), net.device_ids)
    # Before PyTorch 2.6 Apple's GPU refuses autocast, even if it is switched off.
    with torch.autocast(device.type, torch.bfloat16) if amp else nullcontext():
        pred = net(X)
    return pred.float() if pred.dtype == torch.bfloat16 else pred


# 07_multi_gpu.ipynb: save-train-batch
def _rank_and_size():
    """Return (rank, number of processes); without a group, (0, 1)."""
    joined = dist.is_initialized()
    return (dist.get_rank(), dist.get_world_size()) if joined else (0, 1)


def _classes(y):
    """Return class indices; for one-hot or soft labels, the likeliest class."""
    return y.argmax(1) if y.is_floating_point() else y


def train_batch_ch13(net, X, y, loss, trainer, devices, amp=None, sync=True):
    """Train on one batch, on the first of devices (d2l 14.1).

    X: a tensor (n, ...) or a list.
    y: n class indices, or probabilities (n, classes).
    loss: returns one value per example.
    amp: whether to use bfloat16; default: if it is fast.
    sync: False for a net that one of several processes trains alone.
    Returns the loss and the hits, summed over the batch: two tensors of shape ().
    Raises ValueError, naming the argument, before the weights change.
    """
    device = expect.devices(devices)[0]
    processes = expect.parallel(net, _rank_and_size()[1] if sync else 1)
    net.train()
    trainer.zero_grad()
    pred = predict(net, X, device, amp)
    y = to_device(expect.targets(y, pred), device)
    l = expect.losses(loss(pred, y), y, loss).sum()
    # Processes average their gradients; we want the sum over all examples.
    (l * processes).backward()
    trainer.step()
    return l.detach(), (pred.detach().argmax(1) == _classes(y)).sum()


# 07_multi_gpu.ipynb: save-evaluate
def sum_over_processes(values, device, sync=True):
    """Return a list of numbers, each summed over all processes if there are several."""
    total = torch.tensor(values, dtype=torch.float64, device="cpu")
    if sync and dist.is_initialized():
        total = total.to(device if torch.device(device).type == "cuda" else "cpu")
        dist.all_reduce(total)
    return total.tolist()


def evaluate_accuracy_gpu(net, data_iter, device=None, amp=None, sync=True):
    """Return the fraction of examples that net predicts correctly (d2l 7.6).

    device: default: that of net.
    amp: as for `train_batch_ch13`.
    sync: False if one process evaluates alone. Leaves net in evaluation mode.
    """
    if isinstance(net, nn.Module):
        net.eval()
        device = device or next(net.parameters(), torch.empty(0, device="cpu")).device
    if not sync:  # DistributedDataParallel would talk to the other processes
        net = getattr(net, "_orig_mod", net)  # what torch.compile has wrapped
        net = net.module if isinstance(net, DistributedDataParallel) else net
    device, hits, count = expect.devices(device or "cpu")[0], [], 0
    with torch.no_grad():
        for X, y in data_iter:
            pred = predict(net, X, device, amp)
            y = _classes(to_device(expect.targets(y, pred), device))
            hits.append((pred.argmax(1) == y).sum())
            count += y.numel()
    right = torch.stack(hits).sum().item() if hits else 0
    right, count = sum_over_processes([right, count], device, sync)
    if count == 0:
        raise ValueError("data_iter: has no batches, so there is nothing to evaluate")
    return right / count


# 07_multi_gpu.ipynb: save-point
class Point(NamedTuple):
    """The results of a run at one moment.

    epoch: number of epochs done, such as 2.4.
    loss, train_acc: means over the epoch's examples so far.
    test_acc: None within an epoch.
    examples, seconds: totals of the run; evaluating and drawing take no seconds.
    """

    epoch: float
    loss: float
    train_acc: float
    test_acc: float | None
    examples: int
    seconds: float

    def __str__(self) -> str:
        test = "" if self.test_acc is None else f", test acc {self.test_acc:.3f}"
        return f"loss {self.loss:.3f}, train acc {self.train_acc:.3f}{test}"


class History(list):
    """The points of a run, in order; `epochs()` returns those at the ends of epochs."""

    def epochs(self) -> list[Point]:
        return [point for point in self if point.test_acc is not None]

    def __repr__(self) -> str:
        end = f"{self[-1].epoch:g} epochs: {self[-1]}" if self else "no epoch"
        return f"History of {end}"


# 07_multi_gpu.ipynb: save-sums
def _means(steps, epoch, device, sync):
    """Return mean loss, accuracy and number of examples so far, over all processes.

    steps: tuples of loss, hits (both still on the device), examples and labels.
    """
    losses, hits, examples, labels = zip(*steps, strict=True)
    here = [torch.stack(sums).sum().item() for sums in (losses, hits)]
    here += [sum(examples), sum(labels)]
    l, hits, examples, labels = sum_over_processes(here, device, sync)
    if not math.isfinite(l):
        bad = (~torch.stack(losses).isfinite()).nonzero().flatten().tolist()
        where = f"step {bad[0] + 1}" if bad else "a step of another process"
        raise FloatingPointError(
            f"loss: not finite at {where} of epoch {epoch + 1}; the weights are "
            "spoilt. Try a smaller lr, and look for inputs that are not finite"
        )
    return l / examples, hits / labels, int(examples)


# 07_multi_gpu.ipynb: save-set-epoch
def _set_epoch(data_iter, epoch):
    """Pass the epoch to samplers and data sets, nested ones included."""
    names = ("sampler", "batch_sampler", "dataset")
    parts = [getattr(data_iter, name, None) for name in names]
    for part in [*parts, *getattr(data_iter, "datasets", ())]:
        if part is not None:
            getattr(part, "set_epoch", lambda epoch: None)(epoch)
            _set_epoch(part, epoch)


# 07_multi_gpu.ipynb: save-loop
def train_epochs(
    net, train_iter, test_iter, loss, trainer, num_epochs, devices, scheduler=None,
    amp=None, first=0, train_batch=train_batch_ch13, sync=True
):
    """Train, and yield up to five `Point`s an epoch; the last of them has test_acc.

    scheduler: stepped after every batch; first: the first epoch, counted from 0.
    train_batch: does one step, called like `train_batch_ch13`; amp, sync: as there.
    """
    device = expect.devices(devices)[0]
    num_batches = len(expect.not_empty("train_iter", train_iter))
    expect.not_empty("test_iter", test_iter)
    marks = {math.ceil(num_batches * k / 5) for k in (1, 2, 3, 4, 5)}
    step = train_batch if sync else functools.partial(train_batch, sync=False)
    step = on_free_cores(step, device)
    examples, seconds, start = 0, 0.0, time.perf_counter()
    for epoch in range(first, expect.integer("num_epochs", num_epochs)):
        _set_epoch(train_iter, epoch)
        steps = []
        for i, (X, y) in enumerate(train_iter, 1):
            l, hits = step(net, X, y, loss, trainer, devices, amp)
            steps.append((l, hits, len(y), _classes(y).numel()))  # or one per pixel
            if scheduler is not None:
                scheduler.step()
            if i not in marks:
                continue
            l, acc, count = _means(steps, epoch, device, sync)
            seconds += time.perf_counter() - start
            test_acc, done = None, examples + count
            if i == num_batches:
                test_acc = evaluate_accuracy_gpu(net, test_iter, device, amp, sync)
            yield Point(epoch + i / num_batches, l, acc, test_acc, done, seconds)
            start = time.perf_counter()
        examples = done


# 07_multi_gpu.ipynb: save-train
def train_ch13(net, train_iter, test_iter, loss, trainer, num_epochs, devices=None,
               about=None, sync=True, **how):
    """Train, draw the curves in a notebook, and return the history (d2l 14.1).

    train_iter, test_iter: iterables of batches (X, y), with a length.
    devices: one or several; default: all GPUs, or the CPU.
    about: a dictionary to record with the run in `data/runs.jsonl`.
    sync: as for `train_batch_ch13`.
    how: scheduler, amp and train_batch, as for `train_epochs`.
    Whatever ends the run, `train_ch13.history` and net keep their last state. Raises
    ValueError or TypeError for an argument, FloatingPointError if loss is not finite.
    """
    rank, size = _rank_and_size()
    mine = try_all_gpus() if size == 1 else next(net.parameters()).device
    devices = expect.devices(devices or mine)
    about = expect.record("about", about)
    expect.trainer_of(expect.initialized(net), trainer)
    # Changing the layout of a parallel net silently makes its gradients wrong.
    layout = torch.channels_last if size == 1 else torch.preserve_format
    net = net.to(devices[0], memory_format=layout)
    copies = nn.DataParallel(net, devices) if len(devices) > 1 else net
    what = (copies, train_iter, test_iter, loss, trainer, num_epochs, devices)
    train_ch13.history = history = History()
    drawing = draw.Curves(num_epochs)
    try:
        for point in train_epochs(*what, sync=sync, **how):
            history.append(point)
            drawing.update(history)
    finally:  # also after an interrupt, which still propagates
        drawing.update(history, last=True)
        if history and (rank == 0 or not sync):
            record_run(describe(net, train_iter, devices[0]) | curves(history) | about)
            print(draw.closing(history, num_epochs, devices))
    return history


# 07_multi_gpu.ipynb: save-shards
class ShardedBatches(Sampler):
    """Split every batch over the processes; each example comes once an epoch.

    num_examples, batch_size: over all processes.
    seed: the same in all processes.
    rank, world_size: default: those of the process group.
    Pass it to a `DataLoader` as batch_sampler. Call `set_epoch` (`train_epochs` does).
    """

    def __init__(
        self, num_examples, batch_size, shuffle=True, seed=0, rank=None, world_size=None
    ):
        here, size = _rank_and_size()
        size = size if world_size is None else world_size
        self.rank = expect.integer("rank", here if rank is None else rank, 0, size - 1)
        self.num_examples = expect.integer("num_examples", num_examples)
        batch_size = expect.integer("batch_size", batch_size)
        self.num_batches = math.ceil(num_examples / batch_size)
        expect.shares(num_examples, self.num_batches, size)
        self.world_size, self.shuffle, self.seed, self.epoch = size, shuffle, seed, 0

    def set_epoch(self, epoch):
        self.epoch = epoch

    def __len__(self):
        return self.num_batches

    def __iter__(self):
        order = torch.arange(self.num_examples, device="cpu")
        if self.shuffle:
            mix = torch.Generator().manual_seed((self.seed << 20) + self.epoch)
            order = torch.randperm(self.num_examples, generator=mix, device="cpu")
        for part in order.tensor_split(self.num_batches):
            yield part.tensor_split(self.world_size)[self.rank].tolist()
