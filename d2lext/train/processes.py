"""Train one net in several processes: the first decides, and all of them agree.

Each function also works in a single process. Call it in every process: it raises an
error of one in all of them, so that none waits for another forever.
"""

import contextlib
import datetime
import os
import threading
import time
from collections.abc import Callable, Iterator

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from d2lext.multi_gpu import try_all_gpus

TIMEOUT = datetime.timedelta(minutes=5)  # for a process that does not answer


def rank() -> int:
    return dist.get_rank() if dist.is_initialized() else 0


def gather(value: object) -> list:
    """The values of all processes, in the order of their ranks."""
    if not dist.is_initialized():
        return [value]
    values = [None] * dist.get_world_size()
    dist.all_gather_object(values, value)
    return values


def everywhere(task: Callable, *args):
    """Run task in every process, and return this one's result."""
    result = error = None
    try:
        result = task(*args)
    except (ValueError, OSError) as raised:
        error = raised
    for number, words in enumerate(gather(error and str(error))):
        if words is not None:
            raise error or ValueError(f"process {number}: {words}")
    return result


def first(task: Callable, *args):
    """Run task only in the first process, and return its result in all."""
    result = [everywhere(lambda: None if rank() else task(*args))]
    if dist.is_initialized():  # a checkpoint may be too large to gather from all
        dist.broadcast_object_list(result)
    return result[0]


def differing(ours: dict, theirs: dict) -> list[tuple]:
    """The name and both values of every entry that differs."""
    values = [(n, ours.get(n), theirs.get(n)) for n in ours | theirs]
    return [(name, here, there) for name, here, there in values if here != there]


def agree(facts: dict) -> None:
    """Raise ValueError, naming what differs, unless all processes have equal facts."""
    ours, *others = gather(facts)
    for number, theirs in enumerate(others, 1):
        for name, here, there in differing(ours, theirs):
            raise ValueError(
                f"{name}: the processes disagree, {here!r} in process 0 and {there!r} "
                f"in process {number}; give all the same data and options"
            )


def parallel(net: nn.Module, device: torch.device) -> nn.Module:
    """The net, with gradients averaged over the processes if there are several."""
    if not dist.is_initialized():
        return net
    ids = [device.index] if device.type == "cuda" else None
    return DistributedDataParallel(net, device_ids=ids)


def choose_device(name: str | None, local: int | None = None) -> torch.device:
    """The device `name`, or the best; local: the process's number on its machine."""
    device = name or try_all_gpus()[0]
    try:
        device = torch.device(device)
        if local is not None and device.type == "cuda":
            device = torch.device("cuda", local)
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError) as error:
        there = ", ".join(map(str, try_all_gpus()))
        raise ValueError(
            f"--device: {device} cannot be used (available: {there}; start no more "
            f"processes than GPUs): {str(error).splitlines()[0]}"
        ) from error
    if local is not None and device.type not in ("cpu", "cuda"):
        raise ValueError(f"--device: several processes cannot train on {device}")
    return device


@contextlib.contextmanager
def process_group(name: str | None) -> Iterator[torch.device]:
    """Join the other processes, if torchrun started this one, and yield the device."""
    if "RANK" not in os.environ or "WORLD_SIZE" not in os.environ:
        yield choose_device(name)
        return
    threading.Thread(target=_end_with, args=[os.getppid()], daemon=True).start()
    device = choose_device(name, int(os.environ.get("LOCAL_RANK", 0)))
    if device.type == "cuda":
        torch.cuda.set_device(device)
    backend = "nccl" if device.type == "cuda" else "gloo"
    dist.init_process_group(backend, timeout=TIMEOUT)
    yield device
    dist.destroy_process_group()  # not after an error: it would wait for the others


def _end_with(parent: int) -> None:
    """Exit once torchrun has been killed, so that this process writes nothing more."""
    while os.getppid() == parent:
        time.sleep(0.5)
    os._exit(1)
