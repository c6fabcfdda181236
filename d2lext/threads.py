"""Train with fewer threads as long as other programs keep cores busy."""

import sys
import time
from collections.abc import Callable

import torch

from d2lext.runs import usable_cores

SLOW = 1.0  # seconds: shorter steps are left alone, and their runs repeatable
WAITED = 0.85  # of its threads' time: a step that ran for less of it was kept waiting
WAIT = 30  # steps between two tries, which then cost about 3% of the time


class FreeCores:
    """A training step that tries half of the threads if they are kept waiting.

    Two threads that share a core can slow down a step tenfold (lesson 7). A try is one
    step. Its number of threads is kept if the step was faster by a tenth; from time to
    time, a step with half or twice as many tries whether this has changed. PyTorch's
    own number of threads stays the same outside of the step.
    """

    def __init__(self, step: Callable) -> None:
        self.step, self.threads, self.told = step, None, False
        self.before = None  # threads and seconds before a try
        self.last = 0.0  # seconds of the last step; 0: there was none like it
        self.steps = self.wait = WAIT  # since the last try; until the next
        self.down = True  # the way of the next

    def __call__(self, net, X, y, *args):
        most = torch.get_num_threads()
        threads = min(self.threads or most, most)
        wall, cpu = time.perf_counter(), time.process_time()
        try:
            torch.set_num_threads(threads)
            result = self.step(net, X, y, *args)
        finally:
            torch.set_num_threads(most)
        wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
        self._choose(most, threads, wall / len(y), cpu / wall / threads, wall > SLOW)
        return result

    def _choose(self, most, threads, seconds, ran, slow) -> None:
        """Set the threads of the next step; seconds: per example of the last one."""
        last, self.last, self.steps = self.last, seconds, self.steps + 1
        if self.before:  # the step was a try
            old, old_seconds = self.before
            faster, self.before, self.steps = seconds < 0.9 * old_seconds, None, 0
            self.threads = threads if faster else old
            self.down, self.last = faster == (threads < old), 0.0
            self.wait = WAIT * (1 if faster else max(1, seconds / old_seconds))
            if faster and threads < old and not self.told:
                self.told = True
                print(
                    f"note: {old} threads wait for each other, or for a core; training "
                    f"goes on with {threads}: {1 / seconds:.0f} instead of "
                    f"{1 / old_seconds:.0f} examples/sec, until more are faster again "
                    "(last digits of results may differ)",
                    file=sys.stderr,
                )
        elif last and self.steps >= self.wait and (slow or threads < most):
            # The first step is no measure: it also sets things up.
            fewer = ran < WAITED and threads > 1 and (self.down or threads == most)
            if fewer or threads < most:
                self.before = threads, min(last, seconds)
                self.threads = threads // 2 if fewer else min(2 * threads, most)


def on_free_cores(step: Callable, device: torch.device) -> Callable:
    """The step, watched on a CPU, with no more threads than cores that it may use."""
    torch.set_num_threads(min(torch.get_num_threads(), usable_cores()))
    return FreeCores(step) if device.type == "cpu" else step
