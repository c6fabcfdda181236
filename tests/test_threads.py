"""Threads are given up while that is faster, and taken back when it is not."""

import re
from types import SimpleNamespace

import pytest
import torch

from d2lext import threads


def test_a_step_has_as_many_threads_as_make_it_fast(monkeypatch, capsys) -> None:
    before, used, now, ran = torch.get_num_threads(), [], 0.0, 0.0
    seconds = {4: 8.0, 2: 4.0, 1: 2.0}  # of a step; two programs keep cores busy
    clock = {"perf_counter": lambda: now, "process_time": lambda: ran * now}
    monkeypatch.setattr(threads, "time", SimpleNamespace(**clock))

    def step(net, X, y):
        nonlocal now
        used.append(torch.get_num_threads())
        now += seconds[used[-1]]
        return len(used)

    watched = threads.on_free_cores(step, torch.device("cpu"))

    def run(steps: int) -> list[int]:
        used.clear()
        assert [watched(None, None, [0]) for _ in range(steps)] == [
            *range(1, steps + 1)
        ]
        assert torch.get_num_threads() == 4
        return used

    try:
        torch.set_num_threads(4)
        assert run(100)[:4] == [4, 4, 2, 2] and used[-9:] == [1] * 9
        assert used.count(2) < 40 and used.count(4) == 2
        told = re.findall(r"(\d) threads wait .* with (\d):", capsys.readouterr().err)
        assert told == [("4", "2")]  # once
        seconds.update({4: 2.0, 2: 4.0, 1: 8.0})  # the other programs end
        assert 4 in run(300) and used[-50:].count(4) > 45
        ran = 4  # no thread waits
        watched = threads.FreeCores(step)
        assert run(40) == [4] * 40 and not capsys.readouterr().err
        ran = 0
        seconds[4] = 0.9  # a brief step is left alone
        watched = threads.FreeCores(step)
        assert run(40) == [4] * 40
        with pytest.raises(TypeError, match="step"):
            watched(None, None, [0], "one too many")
        assert torch.get_num_threads() == 4
    finally:
        torch.set_num_threads(before)
