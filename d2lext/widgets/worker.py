"""Train in a process that is kept warm, so that it imports torch only once."""

import functools
import multiprocessing
import os
import signal
import threading
from concurrent.futures import BrokenExecutor, Future, ProcessPoolExecutor

from d2lext.runs import VARIABLE, runs_file
from d2lext.train import Config, train

SPAWN = multiprocessing.get_context("spawn")
# Shared with the process: whether to stop, and the epochs that it has trained.
STOP, EPOCHS = SPAWN.Value("b", lock=False), SPAWN.Value("i", lock=False)


def submit(config: Config, mark: dict) -> Future:
    """Train on the sample; the result is the run, recorded with this mark."""
    STOP.value, work = False, (_work, config, mark, str(runs_file() or ""))
    try:
        return _pool().submit(*work)
    except BrokenExecutor:  # the process has died
        _pool.cache_clear()
        return _pool().submit(*work)


def stop(*_) -> None:
    """Stop after the current epoch."""
    STOP.value = True


@functools.cache
def _pool() -> ProcessPoolExecutor:
    """The process that all benches share; it starts when needed."""
    return ProcessPoolExecutor(1, SPAWN, _begin, (STOP, EPOCHS))


def _begin(*shared) -> None:
    global STOP, EPOCHS
    STOP, EPOCHS = shared
    signal.signal(signal.SIGINT, stop)  # the kernel's interrupt arrives here, too
    threading.Thread(target=_end_with_kernel, daemon=True).start()


def _end_with_kernel() -> None:
    multiprocessing.parent_process().join()
    os._exit(1)  # a pool's process would wait for work forever


def _work(config: Config, mark: dict, file: str) -> dict:
    def watch(point) -> None:
        EPOCHS.value = round(point.epoch)
        if STOP.value and not mark and EPOCHS.value < config.epochs:
            raise InterruptedError(f"stopped after epoch {EPOCHS.value}: {point}")

    EPOCHS.value, os.environ[VARIABLE] = 0, file
    return train(config, root="sample", watch=watch, mark=mark).run
