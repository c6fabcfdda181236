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


def _work(pipe) -> None:
    """In the worker: train each setting that arrives, until the kernel exits."""
    interrupted = threading.Event()  # the kernel's interrupt arrives here, too
    signal.signal(signal.SIGINT, lambda *_: interrupted.set())
    points = []

    def watch(point) -> None:
        points.append(point)
        pipe.send(("epoch", None))
        if interrupted.is_set() or pipe.poll():
            raise KeyboardInterrupt

    with contextlib.suppress(EOFError, OSError):
        while True:
            if (message := pipe.recv()) == "stop":  # it came too late
                continue
            config, os.environ[VARIABLE] = message
            interrupted.clear(), points.clear()
            try:
                result = "done", train(config, root="sample", watch=watch).run
            except KeyboardInterrupt:
                run = {"data": "sample"} | curves(points) | dataclasses.asdict(config)
                result = "stopped", run
            except Exception as error:
                result = "failed", f"{type(error).__name__}: {error}"
            pipe.send(result)


class Worker:
    """The training process that all benches share; started when needed, then kept."""

    def __init__(self) -> None:
        self.process, self.pipe, self._turn = None, None, threading.Lock()

    def train(self, config: Config, record: str, watch: Callable) -> tuple:
        """Return ("done" or "stopped", run) or ("failed", words). record: the file."""
        with self._turn:
            try:
                if self.process is None or not self.process.is_alive():
                    spawn = multiprocessing.get_context("spawn")
                    self.pipe, end = spawn.Pipe()
                    self.process = spawn.Process(target=_work, args=(end,), daemon=True)
                    self.process.start()
                    end.close()
                self.pipe.send((config, record))
                while (message := self.pipe.recv())[0] == "epoch":
                    watch()
                return message
            except (EOFError, OSError):
                self.process.join(5)
                words = f"the training process ended, code {self.process.exitcode}"
                return "failed", f"{words}; the next try starts a new one"

    def stop(self) -> None:
        """Stop after the current epoch."""
        with contextlib.suppress(OSError):
            self.pipe.send("stop")


WORKER = Worker()
