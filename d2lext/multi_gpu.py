"""Collected from notebooks/07_multi_gpu.ipynb, where it is explained.

Edit the lesson, then run `python -m tools.collect`.
"""

import base64
import io
import math
import sys
import time
from typing import NamedTuple

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import Sampler

from d2lext.runs import curves, describe, record_run

__all__ = [
    "History",
    "Point",
    "ShardedBatches",
    "bf16_is_fast",
    "evaluate_accuracy_gpu",
    "predict",
    "sum_over_processes",
    "to_device",
    "train_batch_ch13",
    "train_ch13",
    "train_epochs",
    "try_all_gpus",
]


# 07_multi_gpu.ipynb: save-devices
def try_all_gpus() -> list[torch.device]:
    """Every GPU of this machine, or [cpu] if there is none (d2l 6.7)."""
    gpus = range(torch.cuda.device_count())
    return [torch.device("cuda", i) for i in gpus] or [torch.device("cpu")]


def bf16_is_fast(device: torch.device) -> bool:
    """Whether the device computes with bfloat16 (AMX, AVX512-BF16, a recent GPU).

    Others only emulate it, slower than float32.
    """
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    probes = ("_is_amx_tile_supported", "_is_avx512_bf16_supported")
    return device.type == "cpu" and any(getattr(torch.cpu, p, bool)() for p in probes)


# 07_multi_gpu.ipynb: save-checks
def _check_lazy(net):
    if any(isinstance(p, nn.UninitializedParameter) for p in net.parameters()):
        raise ValueError(
            "net: has lazy layers without weights; call net(X) once, before you "
            "initialise it and before you make its trainer"
        )


def _check_device(net, device):
    first = next(net.parameters(), None)
    if first is not None and first.device.type != device.type:
        raise ValueError(
            f"net: is on {first.device}, but the data go to {device}; move it first, "
            f'net.to("{device}")'
        )


def _check_labels(y, pred):
    classes = pred.shape[1] if pred.ndim > 1 else 1
    # Labels on a GPU are not looked at: that would make every step wait.
    if classes == 1 or y.device.type != "cpu" or y.is_floating_point():
        return
    low, high = map(int, y.aminmax())
    if low < 0 or high >= classes:
        raise ValueError(
            f"y: expected labels from 0 to {classes - 1}, since net has {classes} "
            f"outputs; got {low} to {high}"
        )


# 07_multi_gpu.ipynb: save-predict
def to_device(X, device):
    """X (a tensor or a list of them) on a device; pictures with channels last."""
    if isinstance(X, list):
        return [to_device(x, device) for x in X]
    layout = torch.channels_last if X.ndim == 4 else torch.preserve_format
    return X.to(device, memory_format=layout, non_blocking=True)


class _InBfloat16(nn.Module):
    """A net with autocast to bfloat16, whatever thread it is called in."""

    def __init__(self, net, kind):
        super().__init__()
        self.net, self.kind = net, kind

    def forward(self, X):
        with torch.autocast(self.kind, torch.bfloat16):
            return self.net(X)


def predict(net, X, device, amp=None):
    """Return net(X) as float32, computed on device; amp: as in `train_batch_ch13`."""
    amp = bf16_is_fast(device) if amp is None else amp
    if amp and isinstance(net, nn.DataParallel):
        # In its threads autocast is on as well, but with the default type, float16.
        net = nn.DataParallel(_InBfloat16(net.module, device.type), net.device_ids)
    with torch.autocast(device.type, torch.bfloat16, enabled=amp):
        pred = net(to_device(X, device))
    return pred.float() if pred.dtype == torch.bfloat16 else pred


def _hits(pred, y):
    if pred.ndim > 1 and pred.shape[1] > 1:
        pred = pred.argmax(1)
    return (pred.to(y.dtype) == y).sum()


# 07_multi_gpu.ipynb: save-train-batch
def train_batch_ch13(net, X, y, loss, trainer, devices, amp=None):
    """Train on one batch, on devices[0] (d2l 14.1).

    X: a tensor (n, ...) or a list of them; y: n labels; loss: returns one value per
    example; amp: bfloat16 or not, None where the device is fast with it. Returns two
    tensors of shape (), sums over the batch: the loss and the correct predictions.
    Raises ValueError for a net elsewhere, labels that net has no output for, and a
    loss that returns one value for all.
    """
    device = torch.device(devices[0])
    _check_device(net, device)
    net.train()
    trainer.zero_grad()
    pred = predict(net, X, device, amp)
    _check_labels(y, pred)
    y = y.to(device, non_blocking=True)
    l = loss(pred, y)
    if l.ndim == 0:
        raise ValueError(
            "loss: expected one value per example, got one for all; make it with "
            'reduction="none"'
        )
    # Processes average their gradients; we want the sum over all their examples.
    parallel = isinstance(net, DistributedDataParallel)
    (l.sum() * (dist.get_world_size() if parallel else 1)).backward()
    trainer.step()
    return l.detach().sum(), _hits(pred.detach(), y)


# 07_multi_gpu.ipynb: save-evaluate
def sum_over_processes(values, device):
    """Return a list of numbers, each summed over all processes if there are several."""
    total = torch.tensor(values, dtype=torch.float64)
    if dist.is_initialized():
        total = total.to(device)
        dist.all_reduce(total)
    return total.tolist()


def evaluate_accuracy_gpu(net, data_iter, device=None, amp=None):
    """Return the part of the examples that net predicts correctly (d2l 7.6).

    device: default that of net; amp: as in `train_batch_ch13`. Leaves net in
    evaluation mode. Raises ValueError for a data_iter without batches.
    """
    if isinstance(net, nn.Module):
        net.eval()
        device = device or next(net.parameters()).device
    device = torch.device(device or "cpu")
    hits, count = [], 0
    with torch.no_grad():
        for X, y in data_iter:
            pred = predict(net, X, device, amp)
            hits.append(_hits(pred, y.to(device, non_blocking=True)))
            count += y.numel()
    right = torch.stack(hits).sum().item() if hits else 0
    right, count = sum_over_processes([right, count], device)
    if count == 0:
        raise ValueError("data_iter: has no batches, so there is nothing to evaluate")
    return right / count


# 07_multi_gpu.ipynb: save-point
class Point(NamedTuple):
    """What a run had measured at one moment.

    epoch: how many were done, 2.4 for instance; loss, train_acc: means over the
    epoch's examples so far; test_acc: None inside of an epoch; examples, seconds: of
    the whole run, spent on loading and training, not on evaluating or drawing.
    """

    epoch: float
    loss: float
    train_acc: float
    test_acc: float | None
    examples: int
    seconds: float


class History(list):
    """The points of a run in order; `epochs()` are those at the ends of epochs."""

    def epochs(self) -> list[Point]:
        return [point for point in self if point.test_acc is not None]

    def __repr__(self) -> str:
        if not self:
            return "History of no epoch"
        last = self[-1]
        test = f", test acc {last.test_acc:.3f}" if last.test_acc is not None else ""
        return (
            f"History of {last.epoch:g} epochs: loss {last.loss:.3f}, "
            f"train acc {last.train_acc:.3f}{test}"
        )


# 07_multi_gpu.ipynb: save-loop-checks
def _check_trainer(net, trainer):
    of_net = {id(p) for p in net.parameters()}
    if not any(id(p) in of_net for g in trainer.param_groups for p in g["params"]):
        raise ValueError(
            "trainer: holds none of net's weights, so it would train another net; "
            "make it again, from net.parameters()"
        )


def _check_run(train_iter, num_epochs):
    """Return the number of batches."""
    if not isinstance(num_epochs, int) or num_epochs < 1:
        raise ValueError(
            f"num_epochs: expected a whole number >= 1, got {num_epochs!r}"
        )
    if len(train_iter) == 0:
        raise ValueError("train_iter: has no batches, so there is nothing to train on")
    return len(train_iter)


def _check_finite(losses, total, epoch):
    if math.isfinite(total):
        return
    bad = (~torch.stack(losses).isfinite()).nonzero().flatten().tolist()
    where = f"step {bad[0] + 1}" if bad else "a step of another process"
    raise FloatingPointError(
        f"loss: not finite at {where} of epoch {epoch + 1}; the weights are spoilt. "
        "Try a smaller lr, and look for inputs that are not finite"
    )


def _set_epoch(data_iter, epoch):
    """Tell the samplers, so that each epoch is shuffled anew, and the data set."""
    for part in (data_iter.sampler, data_iter.batch_sampler, data_iter.dataset):
        if hasattr(part, "set_epoch"):
            part.set_epoch(epoch)


# 07_multi_gpu.ipynb: save-loop
def train_epochs(
    net,
    train_iter,
    test_iter,
    loss,
    trainer,
    num_epochs,
    devices,
    scheduler=None,
    amp=None,
    first=0,
    train_batch=train_batch_ch13,
):
    """Train, and yield a `Point` five times an epoch; the last of five has test_acc.

    Arguments as for `train_ch13`; first: the epoch to begin with, counted from 0.
    Raises ValueError for an empty train_iter or num_epochs < 1, FloatingPointError
    for a loss that is not finite.
    """
    num_batches = _check_run(train_iter, num_epochs)
    marks = {math.ceil(num_batches * k / 5) for k in (1, 2, 3, 4, 5)}
    device = torch.device(devices[0])
    examples, seconds, start = 0, 0.0, time.perf_counter()
    for epoch in range(first, num_epochs):
        _set_epoch(train_iter, epoch)
        losses, hits, count, labels = [], [], 0, 0
        for i, (X, y) in enumerate(train_iter, 1):
            l, h = train_batch(net, X, y, loss, trainer, devices, amp)
            if scheduler is not None:
                scheduler.step()
            losses.append(l)
            hits.append(h)
            count += y.shape[0]
            labels += y.numel()  # more than examples where y is (n, k)
            if i not in marks:
                continue
            here = [torch.stack(s).sum().item() for s in (losses, hits)]
            sums = sum_over_processes([*here, count, labels], device)
            _check_finite(losses, sums[0], epoch)
            seconds += time.perf_counter() - start
            test_acc = None
            if i == num_batches:
                test_acc = evaluate_accuracy_gpu(net, test_iter, device, amp)
                examples += int(sums[2])
            yield Point(
                epoch + i / num_batches,
                sums[0] / sums[2],
                sums[1] / sums[3],
                test_acc,
                examples if i == num_batches else examples + int(sums[2]),
                seconds,
            )
            start = time.perf_counter()


# 07_multi_gpu.ipynb: save-curves
class _Curves:
    """The book's curves in a notebook, redrawn in place, over a progress bar."""

    def __init__(self, num_epochs):
        from IPython.display import display
        from matplotlib.figure import Figure

        self.num_epochs, self.start = num_epochs, time.perf_counter()
        self.figure = Figure(figsize=(3.5, 2.5), layout="constrained")
        self.bar = display({"text/plain": ""}, raw=True, display_id=True)
        self.picture = display({"text/plain": ""}, raw=True, display_id=True)
        self.drawn = 0.0

    def draw(self, history, last=False):
        now = time.perf_counter()
        if not history or (now - self.drawn < 1 and not last):
            return
        spent, done = now - self.start, history[-1].epoch
        left = spent * (self.num_epochs / done - 1)
        took = f"{spent:.0f} s" if spent > 10 else f"{spent:.1f} s"
        words = f"{done:.1f} of {self.num_epochs} epochs, "
        words += f"stopped after {took}" if last else f"{left:.0f} s left"
        if last and done == self.num_epochs:
            words = f"{self.num_epochs} epochs in {took}"
        bar = f'<progress value="{done:.2f}" max="{self.num_epochs}"></progress>'
        self.bar.update({"text/plain": words, "text/html": f"{bar} {words}"}, raw=True)
        self.picture.update(self._picture(history), raw=True)
        self.drawn = time.perf_counter()

    def _picture(self, history):
        self.figure.clear()
        ax = self.figure.subplots()
        ends, epochs = history.epochs(), [p.epoch for p in history]
        ax.plot(epochs, [p.loss for p in history], "-", label="train loss")
        ax.plot(epochs, [p.train_acc for p in history], "m--", label="train acc")
        test = [p.test_acc for p in ends]
        ax.plot([p.epoch for p in ends], test, "g-.o", ms=3, label="test acc")
        ax.set(xlabel="epoch", xlim=(0, self.num_epochs))
        ax.set_ylim(0, max(1, history[0].loss))
        ax.grid()
        ax.legend()
        png = io.BytesIO()
        self.figure.savefig(png, dpi=100)
        words = f"train loss, train accuracy and test accuracy: {history}"
        encoded = base64.b64encode(png.getvalue()).decode()
        return {"image/png": encoded, "text/plain": words}


# 07_multi_gpu.ipynb: save-train
def _in_notebook():
    shell = sys.modules.get("IPython") and sys.modules["IPython"].get_ipython()
    return getattr(shell, "kernel", None) is not None


def _print_end(history, num_epochs, devices):
    last = history[-1]
    if last.epoch < num_epochs:
        print(
            f"stopped after {last.epoch:.1f} of {num_epochs} epochs; "
            "train_ch13.history has what was measured"
        )
    else:
        print(
            f"loss {last.loss:.3f}, train acc {last.train_acc:.3f}, "
            f"test acc {last.test_acc:.3f}"
        )
    print(f"{last.examples / last.seconds:.1f} examples/sec on {devices}")


def train_ch13(
    net,
    train_iter,
    test_iter,
    loss,
    trainer,
    num_epochs,
    devices=None,
    scheduler=None,
    amp=None,
    about=None,
    train_batch=train_batch_ch13,
):
    """Train, draw the curves in a notebook, and return the history (d2l 14.1).

    devices: default all GPUs, or the CPU; scheduler: stepped after every batch; amp:
    as in `train_batch_ch13`; about: a dictionary that is recorded with the run in
    `data/runs.jsonl`; train_batch: what does a step, called as `train_batch_ch13`.
    Whatever ends the run, `train_ch13.history` has what was
    measured, and net stays as trained so far. Raises what `train_epochs` raises.
    """
    if isinstance(devices, str | torch.device):
        devices = [devices]
    devices = [torch.device(d) for d in devices or try_all_gpus()]
    train_ch13.history = history = History()
    _check_run(train_iter, num_epochs)
    _check_lazy(net)
    _check_trainer(net, trainer)
    net = net.to(devices[0], memory_format=torch.channels_last)
    copies = nn.DataParallel(net, devices) if len(devices) > 1 else net
    drawing = _Curves(num_epochs) if _in_notebook() else None
    how = {"scheduler": scheduler, "amp": amp, "train_batch": train_batch}
    what = (copies, train_iter, test_iter, loss, trainer, num_epochs, devices)
    try:
        for point in train_epochs(*what, **how):
            history.append(point)
            if drawing:
                drawing.draw(history)
    finally:  # also after an interrupt, which then goes on its way
        if drawing:
            drawing.draw(history, last=True)
        if history:
            run = describe(net, train_iter, devices[0]) | curves(history)
            record_run(run | (about or {}))
            _print_end(history, num_epochs, devices)
    return history


# 07_multi_gpu.ipynb: save-shards
class ShardedBatches(Sampler):
    """Deals every batch out over the processes; each example comes once an epoch.

    num_examples: all of them; batch_size: over all processes; seed: the same
    everywhere. rank and world_size default to those of the process group. Give it to
    a `DataLoader` as batch_sampler, and call `set_epoch` (`train_epochs` does).
    Raises ValueError for fewer examples in a batch than processes, and for a rank
    that there is not.
    """

    def __init__(
        self, num_examples, batch_size, shuffle=True, seed=0, rank=None, world_size=None
    ):
        joined = dist.is_initialized()
        self.num_examples, self.shuffle, self.seed = num_examples, shuffle, seed
        self.world_size = world_size or (dist.get_world_size() if joined else 1)
        self.rank = (dist.get_rank() if joined else 0) if rank is None else rank
        for name, value in (("num_examples", num_examples), ("batch_size", batch_size)):
            if not isinstance(value, int) or value < 1:
                raise ValueError(f"{name}: expected a whole number >= 1, got {value!r}")
        if not 0 <= self.rank < self.world_size:
            raise ValueError(
                f"rank: expected 0 to {self.world_size - 1}, since there are "
                f"{self.world_size} processes, got {self.rank}"
            )
        self.num_batches = math.ceil(num_examples / batch_size)
        self.epoch = 0
        smallest = num_examples // self.num_batches
        if smallest < self.world_size:
            raise ValueError(
                f"batch_size: {num_examples} examples in batches of at most "
                f"{batch_size} leave {smallest} for {self.world_size} processes; take "
                "larger batches or fewer processes"
            )

    def set_epoch(self, epoch):
        self.epoch = epoch

    def __len__(self):
        return self.num_batches

    def __iter__(self):
        order = torch.arange(self.num_examples)
        if self.shuffle:
            mix = torch.Generator().manual_seed((self.seed << 20) + self.epoch)
            order = torch.randperm(self.num_examples, generator=mix)
        for part in order.tensor_split(self.num_batches):
            yield part.tensor_split(self.world_size)[self.rank].tolist()
