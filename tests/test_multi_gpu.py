import copy
import itertools
import math
import re
import warnings
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.utils.data import (
    BatchSampler,
    ConcatDataset,
    DataLoader,
    Subset,
    TensorDataset,
)

import d2lext
from d2lext import multi_gpu
from d2lext.multi_gpu import (
    History,
    ShardedBatches,
    bf16_is_fast,
    evaluate_accuracy_gpu,
    predict,
    train_batch_ch13,
    train_ch13,
    train_epochs,
    try_all_gpus,
)
from d2lext.runs import read_runs, usable_cores
from tests.common import CPU, LOSS, flat, make_net, other_defaults, rows, seeded, sgd


def make_iter(n: int = 20, size: int = 4) -> DataLoader:
    X, y = torch.rand(n, 3, 6, 6, generator=seeded()), torch.arange(n) * 7 % 5
    return DataLoader(TensorDataset(X, y), size)


FIRST = next(iter(make_iter()))


def test_a_device_that_cannot_compute_is_left_out_with_a_note(monkeypatch) -> None:
    """This machine has none, so that one which is listed cannot compute."""
    assert bf16_is_fast(torch.device("meta")) is False
    assert isinstance(bf16_is_fast(CPU[0]), bool)
    if torch.cuda.is_available():
        assert try_all_gpus()[0] == torch.device("cuda", 0)
        return
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    multi_gpu._computes.cache_clear()
    with pytest.warns(UserWarning, match="cuda:0 is not used: .*previous-versions"):
        assert try_all_gpus() == CPU
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # it is tried once
        assert try_all_gpus() == CPU


def train(net=None, data=None, loss=LOSS, epochs=2, **more) -> History:
    net = net or make_net()
    data = make_iter() if data is None else data
    trainer, test = more.pop("trainer", None) or sgd(net), more.pop("test", data)
    devices = more.pop("devices", CPU)
    return train_ch13(net, data, test, loss, trainer, epochs, devices, **more)


def step(y=(0, 1, 2, 3), loss=LOSS):
    net = make_net()
    train_batch_ch13(net, FIRST[0], torch.tensor(y), loss, sgd(net), CPU)


REFUSED = r"""
step([0, 1, 2, 5])                           | y: .*0 to 4
step(loss=nn.CrossEntropyLoss())             | loss: .*reduction
train(epochs=0)                              | num_epochs: .*0
train(data=iter([]))                         | train_iter: .*with a length.*iterator
train(test=None)                             | test_iter: .*NoneType
train(devices="gpu")                         | devices: .*got 'gpu'
train(LAZY, trainer=sgd(make_net()))         | net: has lazy layers
train(trainer=sgd(make_net()))               | trainer: holds none of net's weights
train(about={"net": make_net()})             | about: expected a dictionary
evaluate_accuracy_gpu(make_net(), [])        | data_iter: has no batches
ShardedBatches(50, 10, rank=2, world_size=2) | rank: .*from 0 to 1, got 2
"""
LAZY = nn.Sequential(nn.LazyLinear(5))


@rows("code words", REFUSED)
def test_what_cannot_be_trained_is_named(code, words, monkeypatch) -> None:
    monkeypatch.setattr(torch.optim.SGD, "step", None)  # no step was made before
    with pytest.raises((TypeError, ValueError), match=words):
        eval(code)


def test_a_step_fetches_nothing_from_its_device() -> None:
    """What is on `meta` cannot be fetched."""
    net = make_net().to("meta")
    train_batch_ch13(net, *FIRST, LOSS, sgd(net), ["meta"])


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_step_waits_for_no_gpu() -> None:
    net = make_net().cuda()
    run = (*FIRST, LOSS, sgd(net), "cuda")
    train_batch_ch13(net, *run)
    torch.cuda.set_sync_debug_mode("error")
    try:
        train_batch_ch13(net, *run)
    finally:
        torch.cuda.set_sync_debug_mode("default")


def test_default_dtype_and_device_are_let_be() -> None:
    """Images stay float32 where new nets are float64, and tensors appear elsewhere."""
    data, nets = [*make_iter()], [make_net().double() for _ in range(2)]
    for net, defaults in zip(nets, (nullcontext(), other_defaults()), strict=True):
        with defaults:
            train_ch13(net, data, data, LOSS, sgd(net), 1, CPU, amp=False)
            assert evaluate_accuracy_gpu(net, data) >= 0
            assert len([*ShardedBatches(20, 4)]) == 5
    assert torch.equal(*map(flat, nets))


def test_step_takes_a_list_of_inputs() -> None:
    """As fine-tuning BERT needs it."""

    class Sum(nn.Linear):
        def forward(self, inputs):
            return super().forward(sum(inputs))

    torch.manual_seed(0)
    net = Sum(4, 3)
    inputs, y = [torch.rand(6, 4), torch.rand(6, 4)], torch.tensor([0, 1, 2] * 2)
    before = flat(net)
    train_batch_ch13(net, inputs, y, LOSS, sgd(net), CPU)
    assert not torch.equal(flat(net), before)
    assert 0 <= evaluate_accuracy_gpu(net, [(inputs, y)]) <= 1


def test_the_threads_of_data_parallel_compute_as_asked(monkeypatch) -> None:
    """With several GPUs each copy runs in a new thread, as `forward` does here.

    A new thread's autocast has the default type, which on a GPU is float16.
    """
    seen = []

    def forward(self, X):
        def run(enabled):
            torch.set_autocast_dtype("cpu", torch.float16)
            with torch.autocast("cpu", enabled=enabled):
                return self.module(X)

        with ThreadPoolExecutor() as pool:
            seen.append(pool.submit(run, torch.is_autocast_enabled("cpu")).result())
        return seen[-1]

    monkeypatch.setattr(nn.DataParallel, "forward", forward)
    copies = nn.DataParallel(nn.Linear(4, 3))
    preds = [predict(copies, torch.rand(2, 4), CPU[0], amp) for amp in (True, False)]
    assert [X.dtype for X in seen] == [torch.bfloat16, torch.float32]
    assert [X.dtype for X in preds] == [torch.float32] * 2


def test_bfloat16_is_close_to_float32_and_another_computation() -> None:
    losses = []
    for amp in (True, False):
        net = make_net()
        losses += train_batch_ch13(net, *FIRST, LOSS, sgd(net), CPU, amp)[:1]
        assert {p.dtype for p in (*net.parameters(), *losses)} == {torch.float32}
    assert losses[0] != losses[1]
    assert torch.allclose(*losses, rtol=0.02)


def test_accuracy_equals_a_loop_and_uses_no_batch_statistics() -> None:
    net, data = nn.Sequential(nn.BatchNorm2d(3), *make_net()), make_iter(23, 4)
    state = copy.deepcopy(net.state_dict())
    accuracy = evaluate_accuracy_gpu(net, data, amp=False)
    with torch.no_grad():
        right = [(net(x[None]).argmax() == y).item() for x, y in data.dataset]
    assert accuracy == sum(right) / 23
    assert all(torch.equal(state[k], v) for k, v in net.state_dict().items())
    of_a_function = evaluate_accuracy_gpu(lambda X: net(X), data, amp=False)
    assert of_a_function == accuracy


@pytest.mark.parametrize("n", [1, 5, 9, 13, 17, 21, 41, 45])
@pytest.mark.parametrize("labels", ["indices", "probabilities", "pixels"])
def test_points_are_means_over_the_epochs_examples_so_far(n: int, labels: str) -> None:
    """With batches of 4 and a last one of 1; no weight changes."""
    net, ((X, y),) = make_net(), make_iter(n, n)
    if labels == "probabilities":
        y = torch.rand(n, 5).softmax(1)
    elif labels == "pixels":
        net, y = nn.Conv2d(3, 5, 1), torch.randint(5, (n, 6, 6))
    data = DataLoader(TensorDataset(X, y), 4)
    history = [*train_epochs(net, data, data, LOSS, sgd(net, 0), 2, "cpu", amp=False)]
    assert len(history) == 2 * min(len(data), 5)
    losses, likeliest = LOSS(net(X), y), y.argmax(1) if y.is_floating_point() else y
    hits = (net(X).argmax(1) == likeliest).float()
    for point in history:
        done = min(round(point.epoch % 1 * len(data)) * 4 or n, n)
        assert point.examples == done + n * (point.epoch > 1)
        means = losses[:done].sum().item() / done, hits[:done].mean().item()
        assert point[1:3] == pytest.approx(means, rel=1e-5)
        ends = point.epoch in (1, 2)
        assert point.test_acc == (point.train_acc if ends else None)
    assert all(a.seconds <= b.seconds for a, b in itertools.pairwise(history))


def test_a_run_is_a_plain_loop_over_batches() -> None:
    """Channels last, in a list or a loader, its scheduler stepped after each batch."""
    plain, data = make_net(), make_iter(20, 4)
    trainer = sgd(plain, 0.1)
    halve = torch.optim.lr_scheduler.ExponentialLR(trainer, 0.5)
    for X, y in [*data, *data]:
        trainer.zero_grad()
        LOSS(plain(X), y).sum().backward()
        trainer.step()
        halve.step()
    histories = []
    for batches in (data, [*data]):
        net = make_net()
        trainer = sgd(net, 0.1)
        how = {"scheduler": torch.optim.lr_scheduler.ExponentialLR(trainer, 0.5)}
        run = (net, batches, batches, LOSS, trainer, 2, CPU)
        histories.append([p[:5] for p in train_ch13(*run, amp=False, **how)])
        assert net[0].weight.is_contiguous(memory_format=torch.channels_last)
        assert torch.allclose(flat(net), flat(plain), atol=1e-5)
    assert histories[0] == histories[1]


def test_no_more_threads_than_cores() -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(usable_cores() + 2)
    try:
        train(epochs=1)
        assert torch.get_num_threads() == usable_cores()
    finally:
        torch.set_num_threads(before)


def test_all_who_draw_hear_which_epoch_begins() -> None:
    class Told(list):
        def set_epoch(self, epoch):
            self.epoch = epoch

    inner, sampler = Told(make_iter().dataset), Told(range(20))
    both = ConcatDataset([Subset(inner, range(10)), inner])
    loader = DataLoader(both, batch_sampler=BatchSampler(sampler, 4, False))
    train(data=loader, epochs=3)
    assert inner.epoch == sampler.epoch == 2


def test_one_device_needs_no_list_and_none_is_looked_up(monkeypatch) -> None:
    monkeypatch.setattr(multi_gpu, "try_all_gpus", lambda: CPU)
    for devices in ("cpu", CPU[0], None):
        assert train(devices=devices, epochs=1).epochs()
    assert evaluate_accuracy_gpu(make_net(), make_iter(), "cpu") >= 0


@pytest.mark.parametrize("error", [FloatingPointError, KeyboardInterrupt])
def test_what_ends_a_run_keeps_what_was_measured(error, capsys) -> None:
    """A loss that is not finite, or an interrupt, in the third step of epoch 2."""
    steps, net = itertools.count(1), make_net()

    def loss(pred, y):
        if next(steps) < 8:
            return LOSS(pred, y)
        if error is KeyboardInterrupt:
            raise error
        return pred.sum(1) * math.nan

    words = "loss: .*step 3 of epoch 2" if error is FloatingPointError else None
    with pytest.raises(error, match=words):
        train(net, loss=loss, epochs=3)
    history = train_ch13.history
    assert history[-1].epoch == pytest.approx(1.4)
    assert "stopped after 1.4 of 3 epochs; train_ch13" in capsys.readouterr().out
    assert read_runs()[-1]["test_acc"] == [history.epochs()[0].test_acc]
    if error is KeyboardInterrupt:
        other = make_net()
        trainer = sgd(other)
        for X, y in [*make_iter(), *make_iter()][:7]:
            train_batch_ch13(other, X, y, LOSS, trainer, CPU)
        assert torch.equal(flat(net), flat(other))
        assert train(net).epochs()  # it can go on


def test_a_run_is_recorded_and_closed_with_the_books_lines(capsys) -> None:
    net = make_net()
    history = train(net, about={"policy": "flip"})
    out = capsys.readouterr().out
    number = r"\d\.\d{3}"
    lines = (
        rf"loss {number}, train acc {number}, test acc {number}\n"
        r"\d+\.\d examples/sec on \[device\(type='cpu'\)\]\n"
    )
    assert re.fullmatch(lines, out)
    assert f"test acc {history[-1].test_acc:.3f}" in out
    assert repr(history) == f"History of 2 epochs: {out.splitlines()[0]}"
    assert repr(History()) == "History of no epoch"
    assert d2lext.train_ch13.history is history
    (run,) = read_runs()
    count = sum(p.numel() for p in net.parameters())
    expected = {"policy": "flip", "train_images": 20, "net": "Sequential"}
    assert run.items() >= (expected | {"parameters": count}).items()
    assert run["device"].startswith("cpu")
    assert run["test_acc"] == [round(p.test_acc, 5) for p in history.epochs()]


@given(st.integers(1, 300), st.integers(1, 64), st.integers(1, 5), st.integers(0, 3))
def test_shards_deal_every_example_once(n, size, processes, epoch) -> None:
    batches = math.ceil(n / size)

    def dealt(rank: int, world_size: int) -> list[list[int]]:
        shard = ShardedBatches(n, size, rank=rank, world_size=world_size)
        shard.set_epoch(epoch)
        assert len(shard) == batches
        return [*shard]

    if n // batches < processes:
        with pytest.raises(ValueError, match=f"batch_size: .*{processes} processes"):
            dealt(0, processes)
        return
    whole, shards = dealt(0, 1), (dealt(rank, processes) for rank in range(processes))
    assert len(whole) == batches and max(map(len, whole)) <= size
    assert sorted(itertools.chain(*whole)) == [*range(n)]
    for batch, shares in zip(whole, zip(*shards, strict=True), strict=True):
        assert batch == [*itertools.chain(*shares)]
        counts = [*map(len, shares)]
        assert min(counts) >= 1 and max(counts) - min(counts) <= 1


def test_each_epoch_is_shuffled_anew_and_repeatable() -> None:
    shard, other, in_order = (
        ShardedBatches(50, 10, rank=0, world_size=1, **how)
        for how in ({}, {"seed": 1}, {"shuffle": False})
    )
    first = list(shard)
    assert list(shard) == first != list(other)
    shard.set_epoch(1)
    assert list(shard) != first
    assert [*itertools.chain(*in_order)] == [*range(50)]
