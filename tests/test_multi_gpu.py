import copy
import itertools
import json
import math
import re
import threading
import warnings

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.utils.data import (
    BatchSampler,
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
from d2lext.runs import usable_cores

LOSS = nn.CrossEntropyLoss(reduction="none")
CPU = [torch.device("cpu")]


@pytest.fixture(autouse=True)
def runs(tmp_path, monkeypatch):
    """Where runs are recorded during a test."""
    monkeypatch.setenv("D2LEXT_RUNS", str(tmp_path / "runs.jsonl"))
    return tmp_path / "runs.jsonl"


def make_net(classes: int = 5) -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(64, classes)
    )


def make_iter(n: int = 20, size: int = 4, classes: int = 5) -> DataLoader:
    generator = torch.Generator().manual_seed(0)
    X = torch.rand(n, 3, 6, 6, generator=generator)
    y = torch.randint(0, classes, (n,), generator=generator)
    return DataLoader(TensorDataset(X, y), size)


FIRST = next(iter(make_iter()))


def sgd(net: nn.Module, lr: float = 0.01) -> torch.optim.Optimizer:
    return torch.optim.SGD(net.parameters(), lr=lr)


def flat(net: nn.Module) -> torch.Tensor:
    return torch.cat([p.detach().flatten() for p in net.parameters()])


@pytest.mark.parametrize(
    ("net", "X", "y"),
    [
        (make_net(), torch.rand(10, 3, 6, 6), torch.rand(10, 5).softmax(1)),
        (nn.Conv2d(3, 5, 1), torch.rand(4, 3, 6, 6), torch.randint(5, (4, 6, 6))),
    ],
)
def test_soft_labels_count_by_the_likeliest_and_pixels_have_labels(net, X, y) -> None:
    likeliest = y.argmax(1) if y.is_floating_point() else y
    right = (net(X).argmax(1) == likeliest).float().mean().item()
    run = (net, [(X, y)], [(X, y)], LOSS, sgd(net, 0), 1, "cpu")
    (point,) = train_epochs(*run, amp=False)
    loss = LOSS(net(X), y).sum().item() / len(X)
    assert point[1:5] == pytest.approx((loss, right, right, len(X)))


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
train(epochs=1.5)                            | num_epochs: .*1.5
train(data=[])                               | train_iter: has no batches
train(data=iter([]))                         | train_iter: .*with a length.*iterator
train(test=[])                               | test_iter: has no batches
train(test=None)                             | test_iter: .*NoneType
train(devices="gpu")                         | devices: .*got 'gpu'
train(LAZY, trainer=sgd(make_net()))         | net: has lazy layers
train(trainer=sgd(make_net()))               | trainer: holds none of net's weights
train(about={"net": make_net()})             | about: expected a dictionary
evaluate_accuracy_gpu(make_net(), [])        | data_iter: has no batches
ShardedBatches(50, 10, rank=2, world_size=2) | rank: .*from 0 to 1, got 2
"""
LAZY = nn.Sequential(nn.LazyLinear(5))


@pytest.mark.parametrize("row", REFUSED.strip().splitlines())
def test_what_cannot_be_trained_is_named(row, monkeypatch) -> None:
    code, words = row.split(" | ")
    monkeypatch.setattr(torch.optim.SGD, "step", None)  # no step was made before
    with pytest.raises((TypeError, ValueError), match=words):
        eval(code)


# Devices


# A step


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
    data, expected = [*make_iter()], make_net().double()
    net = copy.deepcopy(expected)
    train_ch13(expected, data, data, LOSS, sgd(expected), 1, CPU, amp=False)
    torch.set_default_dtype(torch.float64)
    torch.set_default_device("meta")
    try:
        train_ch13(net, data, data, LOSS, sgd(net), 1, CPU, amp=False)
        assert evaluate_accuracy_gpu(net, data) >= 0
        assert len([*ShardedBatches(20, 4)]) == 5
    finally:
        torch.set_default_dtype(torch.float32)
        torch.set_default_device(None)
    assert torch.equal(flat(net), flat(expected))


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


@pytest.mark.parametrize(("amp", "inside"), [(True, "bfloat16"), (False, "float32")])
def test_the_threads_of_data_parallel_compute_as_asked(
    amp, inside, monkeypatch
) -> None:
    """With several GPUs each copy runs in a new thread, as `forward` does here.

    A new thread's autocast has the default type, which on a GPU is float16.
    """
    seen = []

    def forward(self, X):
        enabled = torch.is_autocast_enabled("cpu")

        def run():
            torch.set_autocast_dtype("cpu", torch.float16)
            with torch.autocast("cpu", enabled=enabled):
                seen.append(self.module(X))

        thread = threading.Thread(target=run)
        thread.start()
        thread.join()
        return seen[-1]

    monkeypatch.setattr(nn.DataParallel, "forward", forward)
    copies = nn.DataParallel(nn.Linear(4, 3))
    pred = predict(copies, torch.rand(2, 4), CPU[0], amp)
    assert seen[0].dtype == getattr(torch, inside) and pred.dtype == torch.float32


def test_bfloat16_is_close_to_float32_and_another_computation() -> None:
    losses = []
    for amp in (True, False):
        net = make_net()
        losses += train_batch_ch13(net, *FIRST, LOSS, sgd(net), CPU, amp)[:1]
        assert {p.dtype for p in (*net.parameters(), *losses)} == {torch.float32}
    assert losses[0] != losses[1]
    assert torch.allclose(*losses, rtol=0.02)


# Evaluation


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


# The loop


@pytest.mark.parametrize("batches", [1, 2, 3, 4, 5, 6, 11, 12])
def test_any_number_of_batches(batches: int) -> None:
    """Among them one, and a last batch of one example."""
    n, net = 4 * batches - 3, make_net()
    data = make_iter(n, 4)
    points = list(train_epochs(net, data, data, LOSS, sgd(net), 2, CPU))
    assert len(points) == 2 * min(batches, 5)
    ends = [point for point in points if point.test_acc is not None]
    assert [(p.epoch, p.examples) for p in ends] == [(1, n), (2, 2 * n)]
    assert all(a.seconds <= b.seconds for a, b in itertools.pairwise(points))


def test_points_are_means_over_the_examples_so_far() -> None:
    net, data = make_net(), make_iter(10, 4)  # batches of 4, 4 and 2
    preds = [(net(X), y) for X, y in data]
    points = [*train_epochs(net, data, data, LOSS, sgd(net, 0), 1, CPU, amp=False)]
    for i, point in enumerate(points, 1):
        pred, y = map(torch.cat, zip(*preds[:i], strict=True))
        right = (pred.argmax(1) == y).float().mean().item()
        means = (LOSS(pred, y).mean().item(), right)
        assert (point.loss, point.train_acc) == pytest.approx(means)
    assert points[-1].test_acc == points[-1].train_acc  # no weight has changed


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
    loader = DataLoader(
        Subset(inner, range(20)), batch_sampler=BatchSampler(sampler, 4, False)
    )
    train(data=loader, epochs=3)
    assert inner.epoch == sampler.epoch == 2


@pytest.mark.parametrize("devices", ["cpu", torch.device("cpu"), ["cpu"], None])
def test_one_device_needs_no_list_and_none_is_looked_up(devices, monkeypatch) -> None:
    monkeypatch.setattr(multi_gpu, "try_all_gpus", lambda: CPU)
    net, data = make_net(), make_iter()
    run = (net, data, data, LOSS, sgd(net), 1)
    assert len(train_ch13(*run, devices).epochs()) == 1
    devices = devices or try_all_gpus()
    assert len([*train_epochs(*run, devices)]) == 5
    train_batch_ch13(net, *FIRST, LOSS, sgd(net), devices)
    assert evaluate_accuracy_gpu(net, data, "cpu") >= 0


def fails_in_step(step: int, what):
    """A loss that calls `what` in a step, counted from 1."""
    steps = iter(range(1, 1000))

    def loss(pred, y):
        if next(steps) == step:
            return what(pred)
        return LOSS(pred, y)

    return loss


def test_a_loss_that_is_not_finite_stops_and_says_where(runs) -> None:
    loss = fails_in_step(8, lambda pred: pred.sum(1) * math.nan)
    with pytest.raises(FloatingPointError, match=r"loss: .*step 3 of epoch 2"):
        train(loss=loss, epochs=3)
    assert len(train_ch13.history.epochs()) == 1
    assert len(json.loads(runs.read_text())["test_acc"]) == 1


def test_an_interrupt_keeps_what_was_measured(runs, capsys) -> None:
    def interrupt(pred):
        raise KeyboardInterrupt

    net, other = make_net(), make_net()
    with pytest.raises(KeyboardInterrupt):
        train(net, loss=fails_in_step(8, interrupt), epochs=3)
    history = train_ch13.history
    assert history[-1].epoch == pytest.approx(1.4)
    assert "stopped after 1.4 of 3 epochs; train_ch13" in capsys.readouterr().out
    assert json.loads(runs.read_text())["test_acc"] == [history.epochs()[0].test_acc]

    trainer = sgd(other)
    for X, y in [*make_iter(), *make_iter()][:7]:
        train_batch_ch13(other, X, y, LOSS, trainer, CPU)
    assert torch.equal(flat(net), flat(other))
    assert train(net).epochs()


def test_closing_lines_are_the_books(capsys) -> None:
    history = train()
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


def test_a_run_is_recorded(runs) -> None:
    torch.manual_seed(4)
    net = make_net()
    history = train(net, about={"policy": "flip"})
    run = json.loads(runs.read_text())
    assert run["policy"] == "flip" and run["train_images"] == 20
    assert run["net"] == "Sequential" and run["device"].startswith("cpu")
    assert run["parameters"] == sum(p.numel() for p in net.parameters())
    assert run["test_acc"] == [round(p.test_acc, 5) for p in history.epochs()]


# Several processes


@given(
    n=st.integers(1, 300),
    size=st.integers(1, 64),
    processes=st.integers(1, 5),
    epoch=st.integers(0, 3),
)
def test_shards_deal_every_example_once(n, size, processes, epoch) -> None:
    batches = math.ceil(n / size)
    if n // batches < processes:
        with pytest.raises(ValueError, match=f"batch_size: .*{processes} processes"):
            ShardedBatches(n, size, rank=0, world_size=processes)
        return
    shards = [
        ShardedBatches(n, size, rank=r, world_size=processes) for r in range(processes)
    ]
    whole = ShardedBatches(n, size, rank=0, world_size=1)
    for shard in (*shards, whole):
        shard.set_epoch(epoch)
    dealt = list(zip(*shards, strict=True))  # as many batches for each
    assert len(dealt) == len(shards[0]) == batches
    assert [[*itertools.chain(*shares)] for shares in dealt] == [*whole]
    assert sorted(itertools.chain(*whole)) == [*range(n)]
    for batch in dealt:
        counts = [len(share) for share in batch]
        assert sum(counts) <= size and max(counts) - min(counts) <= 1
        assert min(counts) >= 1


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
