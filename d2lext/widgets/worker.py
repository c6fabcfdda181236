"""Train in a process that is kept warm, so that it imports torch only once."""

import contextlib
import dataclasses
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable

from d2lext.runs import VARIABLE, curves
from d2lext.train import Config, train

SPAWN = multiprocessing.get_context("spawn")


def _work(pipe, stop) -> None:
    """In the worker: train each setting that arrives, until the kernel exits."""
    os.environ[VARIABLE] = ""  # the kernel keeps the runs
    # The kernel's interrupt arrives here, too.
    signal.signal(signal.SIGINT, lambda *_: setattr(stop, "value", True))
    points = []

    def watch(point) -> None:
        points.append(point)
        pipe.send(("epoch", None))
        if stop.value:
            raise KeyboardInterrupt

    with contextlib.suppress(EOFError, OSError):
        while config := pipe.recv():
            points.clear()
            try:
                pipe.send(("done", train(config, root="sample", watch=watch).run))
            except KeyboardInterrupt:
                run = {"data": "sample"} | curves(points) | dataclasses.asdict(config)
                pipe.send(("stopped", run))
            except Exception as error:
                pipe.send(("failed", f"{type(error).__name__}: {error}"))


class Worker:
    """The training process that all benches share; started when needed, then kept."""

    def __init__(self) -> None:
        self.process, self._turn = None, threading.Lock()
        self.stop = SPAWN.Value("b", False, lock=False)  # after the current epoch

    def train(self, config: Config, watch: Callable[[], None]) -> tuple:
        """Return ("done" or "stopped", run) or ("failed", words); watch each epoch."""
        with self._turn:
            if self.process is None or not self.process.is_alive():
                self._pipe, end = SPAWN.Pipe()
                args = (end, self.stop)
                self.process = SPAWN.Process(target=_work, args=args, daemon=True)
                self.process.start()
                end.close()
            self.stop.value = False
            try:
                self._pipe.send(config)
                while (message := self._pipe.recv())[0] == "epoch":
                    watch()
                return message
            except (EOFError, OSError):
                self.process.join(5)
                words = f"the training process ended, code {self.process.exitcode}"
                return "failed", f"{words}; the next try starts a new one"


WORKER = Worker()
