import dataclasses
import itertools
import json
import re
import resource
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from d2lext import train as command
from d2lext.augment import to_float
from d2lext.compare import augmentations
from d2lext.images import read_cifar10
from d2lext.mixup import calibration_bins, expected_calibration_error
from d2lext.runs import read_runs
from d2lext.train import Config, main, train
from d2lext.train.muon import Muon
from tests.common import flat, make_folder, points, refused, rows

TINY = Config(policy="all", epochs=4, batch_size=16, widths=(8, 8, 8))
OPTIONS = ["--epochs", "2", "--batch-size", "16", "--widths", "8", "8", "8"]


@pytest.fixture(scope="module")
def images(tmp_path_factory) -> Path:
    return make_folder(tmp_path_factory.mktemp("images"))


@pytest.fixture(autouse=True)
def use(images, monkeypatch) -> None:
    monkeypatch.setenv("D2LEXT_CIFAR10", str(images))


def changed(**fields) -> Config:
    return dataclasses.replace(TINY, **fields)


def runs(file: Path) -> list[dict]:
    return json.loads(file.read_text())["runs"]


def test_a_run_is_recorded_with_all_that_it_depends_on(images) -> None:
    _, history, run = train(TINY)
    recorded = read_runs()[-1]
    assert recorded.items() >= json.loads(json.dumps(run)).items()
    assert recorded.items() >= {"policy": "all", "widths": [8, 8, 8]}.items()
    assert recorded["test_acc"] == [round(p.test_acc, 5) for p in history]
    where = {"data": "folder", "format": "as a folder of images (png)"}
    where |= {"train_images": 40, "test_images": 20}
    assert recorded.items() >= (where | {"processes": 1}).items()
    assert str(images) not in json.dumps(recorded)


REFUSED = r"""
train(changed(policy="turn"))             | policy 'turn'
train(changed(net="big"))                 | net: .*small or resnet18.*'big'
train(changed(optimizer="sgd"))           | optimizer: .*adamw or muon.*'sgd'
train(changed(epochs=0))                  | epochs: .*>= 1
train(changed(batch_size=0))              | batch_size: .*>= 1
train(changed(num_train=0))               | num_train: .*>= 1
train(changed(widths=(0, 8, 8)))          | widths: .*\(0, 8, 8\)
train(changed(label_smoothing=2))         | label_smoothing: .*from 0 to 1, got 2
train(changed(mix_prob=-1))               | mix_prob: .*from 0 to 1, got -1
train(changed(num_val=-1))                | num_val: expected an integer >= 0, got -1
train(changed(plain_epochs=-1))           | plain_epochs: .*integer >= 0, got -1
train(changed(num_train=41))              | num_train: 41 wanted, .*only 40 images
train(changed(num_val=40))                | num_val: 40 held out, but there are only 40
train(changed(num_train=30, num_val=11))  | num_train: 30 wanted, and num_val: 11
train(changed(lr=0.0))                    | lr: .*>= 1e-09, got 0
train(changed(weight_decay=-1))           | weight_decay: expected a finite number >= 0
train(changed(mixup_alpha=-0.1))          | mixup_alpha: expected a finite number >= 0
train(changed(cutmix_alpha=float("inf"))) | cutmix_alpha: expected a finite number >= 0
"""
test_configs_that_cannot_be = refused(globals(), REFUSED)


def test_held_out_images_are_evaluated_and_not_trained_on() -> None:
    def chosen(**fields) -> list[set[bytes]]:
        X, _, X_test, *_ = command._choose(
            changed(**fields), *command._read(None).images
        )
        return [{x.numpy().tobytes() for x in part} for part in (X, X_test)]

    trained, evaluated = chosen(num_val=10)
    assert (len(trained), len(evaluated)) == (30, 10) and not trained & evaluated
    fewer, again = chosen(num_train=20, num_val=10, seed=1)
    assert len(fewer) == 20 and again == evaluated  # whatever else is chosen
    everything, test = chosen()
    assert everything == trained | evaluated and len(test) == 20
    assert train(changed(num_val=10)).run["test_images"] == 10


def test_images_and_augmentation_of_a_caller() -> None:
    X, y, *_ = read_cifar10(True)
    data = (X[:20], y[:20], X[20:25], y[20:25])
    net, history, run = train(TINY, data=data)
    assert history[0].examples == 20
    assert (run["data"], run["train_images"], run["test_images"]) == ("given", 20, 5)
    given = train(TINY, data=data, augs=augmentations("none"))
    plain = train(changed(policy="none"), data=data)
    assert torch.equal(flat(given.net), flat(plain.net))
    assert given.run["policy"] == "Compose(transforms=[])"
    assert not torch.equal(flat(given.net), flat(net))


@pytest.mark.parametrize("preset", command.PRESETS)
def test_presets_train_and_options_change_them(preset, tmp_path) -> None:
    file = tmp_path / "results.json"
    tiny = ["--epochs", "2", "--widths", "8", "8", "8", "--results", str(file)]
    assert main(["--preset", preset, *tiny]) == 0
    (run,) = runs(file)
    chosen = command.PRESETS[preset]
    assert run["policy"] == chosen["policy"][0]
    assert run["batch_size"] == chosen.get("batch_size", Config().batch_size)
    assert (run["epochs"], run["widths"]) == (2, [8, 8, 8])


def test_mixing_is_part_of_the_config() -> None:
    ways = [(0.0, 0.0, 1.0), (0.5, 0.0, 1.0), (0.0, 1.0, 1.0), (0.5, 1.0, 1.0)]
    nets = []
    for mixup, cutmix, prob in [*ways, (0.5, 0.0, 0.5)]:
        mixed = {"mixup_alpha": mixup, "cutmix_alpha": cutmix, "mix_prob": prob}
        net, _, run = train(changed(epochs=2, **mixed))
        assert run.items() >= mixed.items()
        nets.append(flat(net))
    assert not any(torch.equal(a, b) for a, b in itertools.combinations(nets, 2))


def test_classes_can_weigh_more_in_the_loss() -> None:
    plain, even, heavy = (
        train(changed(epochs=1), weight=weight)
        for weight in (None, torch.ones(10), torch.tensor([9.0] + 9 * [1.0]))
    )
    assert torch.equal(flat(plain.net), flat(even.net))
    assert heavy.run["loss"][0] > plain.run["loss"][0]
    assert heavy.run["weight"] == [9.0] + 9 * [1.0] and "weight" not in plain.run


def test_the_last_epochs_are_plain() -> None:
    mixed, half, plain = (
        train(changed(epochs=2, mixup_alpha=0.5, plain_epochs=n)) for n in range(3)
    )
    assert torch.equal(flat(plain.net), flat(train(changed(epochs=2)).net))
    assert half.run["loss"][0] == mixed.run["loss"][0] != plain.run["loss"][0]
    assert half.run["loss"][1] != mixed.run["loss"][1]


def test_the_last_numbers_are_those_of_the_net() -> None:
    def acc(pred, y):
        return pytest.approx((pred.argmax(1) == y).float().mean().item())

    net, history, run = train(changed(amp=False))
    (X_train, y_train, *_), (X, y, *_) = read_cifar10(True), read_cifar10(False)
    X_train, X = (to_float(x.permute(0, 3, 1, 2)) for x in (X_train, X))
    with torch.no_grad():
        plain, pred, mirrored = map(net, (X_train, X, X.flip(3)))
    assert run["plain_acc"] == acc(plain, y_train)
    assert run["tta_acc"] == acc(pred.softmax(1) + mirrored.softmax(1), y)
    assert history[-1].test_acc == acc(pred, y)
    loss = torch.nn.functional.cross_entropy(pred, y).item()
    assert run["test_loss"] == pytest.approx(loss, abs=1e-4)
    bins = calibration_bins(pred, y)
    assert torch.tensor(run["bins"]).allclose(bins.float(), atol=1e-2)
    assert run["ece"] == pytest.approx(expected_calibration_error(bins), abs=1e-4)


def test_only_filters_and_matrices_decay_and_muon_moves_filters() -> None:
    net = command._make_net(TINY, read_cifar10(True).X)
    for optimizer in command.OPTIMIZERS:
        config = changed(optimizer=optimizer)
        trainer = command._make_trainer(config, net)
        assert isinstance(trainer, Muon) == (optimizer == "muon")
        for group in trainer.param_groups:
            dims = {p.ndim for p in group["params"]}
            assert (group["weight_decay"] == 0) == (dims == {1}) or dims == {4}
            assert ("momentum" in group) == (optimizer == "muon" and dims == {4})
        scheduler, rates = command._make_scheduler(config, trainer, 8), []
        for _ in range(8):
            rates.append(trainer.param_groups[0]["lr"])
            trainer.step()
            scheduler.step()
        falls = [config.lr * (8 - step) / 8 for step in range(8)]
        assert (rates == pytest.approx(falls)) == (optimizer == "muon")
        assert max(rates) == pytest.approx(config.lr)
        count = sum(len(group["params"]) for group in trainer.param_groups)
        assert count == sum(p.requires_grad for p in net.parameters())


# Checkpoints


@pytest.mark.parametrize("optimizer", command.OPTIMIZERS)
def test_a_resumed_run_equals_one_that_was_not_interrupted(
    optimizer, tmp_path, capsys
) -> None:
    mixed = {"mixup_alpha": 0.5, "cutmix_alpha": 1.0, "mix_prob": 0.7}
    file, config = tmp_path / "new" / "state.pt", changed(optimizer=optimizer, **mixed)
    seen = []

    def interrupt(point) -> None:
        seen.append(point)
        if point.epoch == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(config, checkpoint=file, resume=True, watch=interrupt)
    assert "no checkpoint" in capsys.readouterr().out
    assert len(read_runs()[-1]["test_acc"]) == 2
    file.with_name("state.pt.part").write_bytes(b"half a")
    net, history, run = train(config, checkpoint=file, resume=True)
    whole, other = train(config), train(dataclasses.replace(config, seed=1))
    assert torch.equal(flat(net), flat(whole.net))
    assert not torch.equal(flat(net), flat(other.net))
    assert points(history) == points(whole.history) and run["examples"] == 160
    assert [p.name for p in file.parent.iterdir()] == ["state.pt"]
    done = len(read_runs())  # a finished run is neither trained nor recorded again
    again = train(config, checkpoint=file, resume=True, watch=interrupt)
    assert again.history == history and len(seen) == 2 and len(read_runs()) == done


def test_a_checkpoint_that_does_not_fit_is_named_and_left_as_it_is(tmp_path):
    file = tmp_path / "state.pt"
    train(TINY, checkpoint=file)
    with pytest.raises(ValueError, match=r"state\.pt: exists; resume from it"):
        train(TINY, checkpoint=file)
    whole, saved = file.read_bytes(), torch.load(file)
    saved["settings"]["processes"] = 2
    torch.save(saved, tmp_path / "two.pt")
    torch.save({"something": 1}, tmp_path / "other.pt")
    two, other = ((tmp_path / name).read_bytes() for name in ("two.pt", "other.pt"))
    more = make_folder(tmp_path / "images", train=5)
    X, y, X_test, y_test = *read_cifar10(True)[:2], *read_cifar10(False)[:2]
    swapped = (X.flip(0), y.flip(0), X_test, y_test)  # as many, and others
    parts = [whole[: k * len(whole) // 4] for k in range(4)]  # as of a full disk
    cases = [(part, TINY, {}, "cannot be read") for part in (*parts, b"junk", other)]
    cases += [
        (two, TINY, {}, r".* another run \(processes was 2, is 1"),
        (whole, changed(net="resnet18"), {}, r".*\(net was 'small', is 'resnet18'"),
        (whole, changed(widths=(8, 8, 16)), {}, r".*\(widths was"),
        (whole, TINY, {"root": more}, r".*\(train_images was 40, is 50"),
        (whole, TINY, {"data": swapped}, r".*\(data was .*checksum was"),
    ]
    for content, config, how, words in cases:
        file.write_bytes(content)
        with pytest.raises(ValueError, match=rf"state\.pt: {words}") as error:
            train(config, checkpoint=file, resume=True, **how)
        assert "\n" not in str(error.value) and file.read_bytes() == content


def test_a_checkpoint_that_cannot_be_written(tmp_path) -> None:
    (tmp_path / "file").touch()
    for path in (tmp_path, tmp_path / "file" / "state.pt"):
        with pytest.raises(ValueError, match=f"checkpoint {path}: cannot be written"):
            train(TINY, checkpoint=path)
    assert read_runs() == []  # seen before the first epoch


def test_a_full_disk_costs_the_checkpoint_and_not_the_run(tmp_path, capsys) -> None:
    file = tmp_path / "state.pt"
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)

    def fill(point) -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, hard))

    try:
        assert len(train(TINY, checkpoint=file, watch=fill).history) == TINY.epochs
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert f"note: epoch 4 was not saved in {file}" in capsys.readouterr().err
    assert len(torch.load(file)["history"]) == 1
    assert not file.with_name("state.pt.part").exists()


# The command


def test_results_collect_runs_and_skip_those_there(
    tmp_path, monkeypatch, capsys
) -> None:
    file = tmp_path / "new" / "results.json"
    options = [*OPTIONS, "--results", str(file), "--policy", "none", "flip"]
    reads = []

    def read(*args):
        reads.append(args)
        time.sleep(2)
        return read_cifar10(*args)

    with monkeypatch.context() as patch:
        patch.setattr(command, "read_cifar10", read)
        assert main([*options, "--seed", "0"]) == 0
    assert len(reads) == 2  # once for both runs, and it counts in each one's time
    assert all(run["wall_seconds"] > 4 + run["seconds"] for run in runs(file))
    assert main([*options, "--seed", "0", "1"]) == 0
    assert f"already in {file}: 2 of 4 runs" in capsys.readouterr().out
    done = [(run["policy"], run["seed"]) for run in runs(file)]
    assert done == [("none", 0), ("flip", 0), ("none", 1), ("flip", 1)]
    assert not list(file.parent.glob("*.json.*.lock"))  # each claim is given up
    start = "python -m d2lext.train --epochs 2"
    assert json.loads(file.read_text())["command"].startswith(start)
    assert len(read_runs()) == 4
    other = make_folder(tmp_path / "images", train=5)
    assert main([*options, "--seed", "0", "--root", str(other)]) == 0
    assert [run["train_images"] for run in runs(file)] == [40] * 4 + [50] * 2


@pytest.mark.parametrize("content", ["", "{}", '{"runs": 1', "[]", '{"runs": [{}]}'])
def test_results_that_are_none_are_not_overwritten(tmp_path, content, capsys) -> None:
    file = tmp_path / "results.json"
    file.write_text(content)
    assert main([*OPTIONS, "--results", str(file)]) == 1
    assert f"--results {file}: holds no runs" in capsys.readouterr().err
    assert file.read_text() == content


ERRORS = r"""
--policy flip+turn         | policy 'flip\+turn' \(none, all, or parts
--resume                   | --resume: needs --checkpoint
--seed 0 1 --checkpoint x  | --checkpoint: takes one run
--root nowhere             | root: there is no folder
--device gpu               | --device: gpu cannot be used
--device mps               | --device: mps cannot be used \(available:
--lr 1e30                  | loss: not finite at step \d of epoch \d
"""


@rows("options words", ERRORS)
def test_errors_are_one_line(options, words, capsys) -> None:
    assert main([*OPTIONS, *options.split()]) == 1
    err = capsys.readouterr().err
    assert re.match(f"train: .*{words}", err) and err.count("\n") == 1


def test_it_says_what_it_trains_on_and_takes_no_sample_for_a_folder(
    tmp_path, monkeypatch, capsys, images
) -> None:
    assert main([*OPTIONS, "--device", "cpu", "--no-amp"]) == 0
    assert read_runs()[-1]["bf16"] is False
    first, second, third, *_ = capsys.readouterr().out.splitlines()
    assert "40 images for training" in first and str(images) in first
    assert "20 images for testing" in second and "epoch 1/2" in third
    assert main([*OPTIONS, "--root", str(tmp_path)]) == 1
    assert f"root: no CIFAR-10 in {tmp_path}" in capsys.readouterr().err
    monkeypatch.setenv("D2LEXT_CIFAR10", str(tmp_path))
    with pytest.raises(ValueError, match="root: no CIFAR-10"):
        train(TINY)


def test_an_interrupt_has_an_exit_code_of_its_own(monkeypatch, capsys) -> None:
    def interrupt(*args) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(command, "_run_all", interrupt)
    assert main(OPTIONS) == 130
    assert "finished epochs are recorded" in capsys.readouterr().err


def test_help_needs_little_more_than_torch() -> None:
    program = (
        "import sys, d2lext.train\n"
        "try: d2lext.train.main(['--help'])\n"
        "finally: assert not {'IPython', 'matplotlib', 'd2l'} & {*sys.modules}"
    )
    ask = [sys.executable, "-c", program]
    out = subprocess.run(ask, capture_output=True, text=True, check=True).stdout
    for field in dataclasses.fields(Config):
        name = "no-amp" if field.name == "amp" else field.name.replace("_", "-")
        assert f"--{name}" in out
