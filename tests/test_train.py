import dataclasses
import itertools
import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from PIL import Image

from d2lext import train as command
from d2lext.compare import augmentations
from d2lext.images import CLASSES, read_cifar10
from d2lext.runs import read_runs
from d2lext.train import Config, main, train

TINY = Config(policy="all", epochs=4, batch_size=16, widths=(8, 8, 8))
OPTIONS = ["--epochs", "2", "--batch-size", "16", "--widths", "8", "8", "8"]


@pytest.fixture(scope="module")
def pictures(tmp_path_factory) -> Path:
    """A folder that `read_cifar10` takes for CIFAR-10, with very few pictures."""
    root = tmp_path_factory.mktemp("pictures")
    for split, count in (("train", 4), ("test", 2)):
        for label, name in enumerate(CLASSES):
            folder = root / split / name
            folder.mkdir(parents=True)
            for i in range(count):
                color = (25 * label, 60 * i, 255 - 25 * label)
                Image.new("RGB", (32, 32), color).save(folder / f"{i}.png")
    return root


@pytest.fixture(autouse=True)
def environment(pictures, tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("D2LEXT_CIFAR10", str(pictures))
    monkeypatch.setenv("D2LEXT_RUNS", str(tmp_path / "runs.jsonl"))


def flat(net: torch.nn.Module) -> torch.Tensor:
    return torch.cat([p.detach().flatten() for p in net.parameters()])


def numbers(history) -> list[tuple]:
    return [point[:5] for point in history]  # all but the seconds


def test_a_seed_repeats_the_run_and_another_does_not() -> None:
    first, again = train(TINY), train(TINY)
    assert torch.equal(flat(first.net), flat(again.net))
    assert numbers(first.history) == numbers(again.history)
    other = train(dataclasses.replace(TINY, seed=1))
    assert not torch.equal(flat(first.net), flat(other.net))


def test_a_run_is_recorded_with_all_that_it_depends_on(pictures) -> None:
    _, history, run = train(TINY)
    recorded = read_runs()[-1]
    assert recorded.items() >= json.loads(json.dumps(run)).items()
    assert recorded["policy"] == "all" and recorded["widths"] == [8, 8, 8]
    assert recorded["test_acc"] == [round(p.test_acc, 5) for p in history]
    assert 0 <= recorded["plain_acc"] <= 1
    assert recorded["data"] == "folder"
    assert str(pictures) not in json.dumps(recorded)


def test_it_learns() -> None:
    config = dataclasses.replace(TINY, policy="none", epochs=40)
    _, history, run = train(config)  # ten classes, each of one colour
    assert history[-1].loss < 0.9 * history[0].loss
    assert run["plain_acc"] > 0.2


def test_part_of_the_pictures(capsys) -> None:
    assert train(dataclasses.replace(TINY, num_train=20)).history[0].examples == 20
    with pytest.raises(ValueError, match=r"num_train: 41 wanted, .*40 are there"):
        train(dataclasses.replace(TINY, num_train=41))


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"policy": "turn"}, "policy: 'turn'"),
        ({"net": "big"}, "net: .*small or resnet18.*'big'"),
        ({"epochs": 0}, "epochs: "),
        ({"batch_size": 0}, "batch_size: "),
        ({"num_train": 0}, "num_train: "),
        ({"widths": (0, 8, 8)}, r"widths: .*\(0, 8, 8\)"),
        ({"label_smoothing": 2}, "label_smoothing: expected 0 to 1, got 2"),
        ({"num_val": -1}, "num_val: expected a whole number >= 0, got -1"),
        ({"num_val": 40}, "num_val: 40 to hold out; 40 are there"),
        ({"num_train": 30, "num_val": 11}, "num_train: 30 wanted, and num_val: 11"),
        ({"lr": 0.0}, "lr: "),
        ({"lr": float("nan")}, "lr: "),
        ({"mixup_alpha": -0.1}, "mixup_alpha: expected a finite number >= 0"),
        ({"cutmix_alpha": float("inf")}, "cutmix_alpha: "),
    ],
)
def test_configs_that_cannot_be(changed: dict, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        train(dataclasses.replace(TINY, **changed))


def test_held_out_pictures_are_evaluated_and_not_trained_on(monkeypatch) -> None:
    loaders = []
    loader = command._loader

    def spy(X, y, *args):
        loaders.append({x.numpy().tobytes() for x in X})
        return loader(X, y, *args)

    monkeypatch.setattr(command, "_loader", spy)
    train(dataclasses.replace(TINY, num_val=10))
    trained, evaluated, plain = loaders
    assert (len(trained), len(evaluated)) == (30, 10)
    assert not trained & evaluated and plain == trained
    train(dataclasses.replace(TINY, num_train=20, num_val=10))
    assert len(loaders[3]) == 20
    assert loaders[4] == evaluated  # whatever else is chosen
    train(TINY)
    test = read_cifar10(False).X
    assert len(loaders[6]) == 40
    assert loaders[7] == {x.numpy().tobytes() for x in test}


def test_pictures_and_augmentation_of_a_caller() -> None:
    X, y, *_ = read_cifar10(True)
    data = (X[:20], y[:20], X[20:25], y[20:25])
    net, history, run = train(TINY, data=data)
    assert history[0].examples == 20 and run["data"] == "pictures of a caller"
    plain = dataclasses.replace(TINY, policy="none")
    given = train(TINY, data=data, augs=augmentations("none"))
    assert torch.equal(flat(given.net), flat(train(plain, data=data).net))
    assert given.run["policy"] == "Compose(transforms=[])"
    assert not torch.equal(flat(given.net), flat(net))


def test_accuracy_of_two_views_is_that_of_their_mean() -> None:
    net, _, run = train(dataclasses.replace(TINY, amp=False, policy="none"))
    X, y, *_ = read_cifar10(False)
    X = X.permute(0, 3, 1, 2).float() / 255
    with torch.no_grad():
        both = torch.stack([net(X).softmax(1), net(X.flip(3)).softmax(1)]).mean(0)
    assert run["tta_acc"] == pytest.approx((both.argmax(1) == y).float().mean().item())


@pytest.mark.parametrize("preset", command.PRESETS)
def test_presets_train_and_options_change_them(preset, tmp_path) -> None:
    file = tmp_path / "results.json"
    tiny = ["--epochs", "2", "--widths", "8", "8", "8", "--results", str(file)]
    assert main(["--preset", preset, *tiny]) == 0
    (run,) = json.loads(file.read_text())["runs"]
    chosen = command.PRESETS[preset]
    assert run["policy"] == chosen["policy"][0]
    assert run["batch_size"] == chosen.get("batch_size", Config().batch_size)
    assert (run["epochs"], run["widths"]) == (2, [8, 8, 8])


def test_few_steps_are_trained_too() -> None:
    config = dataclasses.replace(TINY, epochs=1, batch_size=40)
    assert len(train(config).history) == 1


def test_mixing_is_part_of_the_config() -> None:
    alphas = [(0.0, 0.0), (0.5, 0.0), (0.0, 1.0), (0.5, 1.0)]
    nets = []
    for mixup_alpha, cutmix_alpha in alphas:
        mixed = {"mixup_alpha": mixup_alpha, "cutmix_alpha": cutmix_alpha}
        config = dataclasses.replace(TINY, **mixed)
        trained = train(config)
        assert trained.run.items() >= mixed.items()
        assert torch.equal(flat(train(config).net), flat(trained.net))
        nets.append(flat(trained.net))
    assert not any(torch.equal(a, b) for a, b in itertools.combinations(nets, 2))


def test_test_loss_and_calibration_are_those_of_the_net() -> None:
    config = dataclasses.replace(TINY, amp=False)
    net, history, run = train(config)
    X, y, *_ = read_cifar10(False)
    with torch.no_grad():
        pred = net(X.permute(0, 3, 1, 2).float() / 255)
    loss = torch.nn.functional.cross_entropy(pred, y).item()
    assert run["test_loss"] == pytest.approx(loss, abs=1e-4)
    counts, confidences, hits = zip(*run["bins"], strict=True)
    assert sum(counts) == len(y)
    assert sum(hits) == round(history[-1].test_acc * len(y))
    assert sum(confidences) == pytest.approx(
        pred.softmax(1).amax(1).sum().item(), abs=1e-2
    )
    assert 0 <= run["ece"] <= 1


def test_a_ruined_net_stops_the_run_and_keeps_the_epochs(monkeypatch) -> None:
    calls = iter(range(100))

    class Ruined(torch.nn.CrossEntropyLoss):
        def forward(self, pred, y):
            return super().forward(pred, y) * (float("inf") if next(calls) > 4 else 1)

    monkeypatch.setattr(command.nn, "CrossEntropyLoss", Ruined)
    with pytest.raises(FloatingPointError, match="step 3 of epoch 2"):
        train(TINY)
    assert len(read_runs()[-1]["test_acc"]) == 1


# Checkpoints


def interrupt_after(epochs: int):
    def watch(point) -> None:
        if point.epoch == epochs + 1:
            raise KeyboardInterrupt

    return watch


def test_a_resumed_run_equals_one_that_was_not_interrupted(tmp_path) -> None:
    file = tmp_path / "state.pt"
    with pytest.raises(KeyboardInterrupt):
        train(TINY, checkpoint=file, watch=interrupt_after(2))
    assert len(read_runs()[-1]["test_acc"]) == 3  # the third was lost with its state
    (tmp_path / "state.pt.part").write_bytes(b"half a")
    net, history, _ = train(TINY, checkpoint=file, resume=True)
    whole = train(TINY)
    assert torch.equal(flat(net), flat(whole.net))
    assert numbers(history) == numbers(whole.history)


def test_a_checkpoint_from_before_there_was_mixup_can_be_resumed(tmp_path) -> None:
    file = tmp_path / "state.pt"
    train(TINY, checkpoint=file)
    saved = torch.load(file)
    del saved["config"]["mixup_alpha"]
    torch.save(saved, file)
    assert len(train(TINY, checkpoint=file, resume=True).history) == TINY.epochs
    mixed = dataclasses.replace(TINY, mixup_alpha=0.5)
    with pytest.raises(ValueError, match=r"mixup_alpha was 0\.0, is 0\.5"):
        train(mixed, checkpoint=file, resume=True)


def test_a_finished_run_is_not_trained_again(tmp_path) -> None:
    file = tmp_path / "state.pt"
    first = train(TINY, checkpoint=file)
    seen = []
    again = train(TINY, checkpoint=file, resume=True, watch=seen.append)
    assert seen == [] and again.history == first.history


def test_without_a_checkpoint_it_starts_anew(tmp_path, capsys) -> None:
    train(TINY, checkpoint=tmp_path / "none.pt", resume=True)
    assert "no checkpoint" in capsys.readouterr().out


@pytest.mark.parametrize(
    "changed", [{"net": "resnet18"}, {"widths": (8, 8, 16)}, {"epochs": 5}]
)
def test_a_checkpoint_of_another_run(tmp_path, changed: dict) -> None:
    file = tmp_path / "state.pt"
    train(TINY, checkpoint=file)
    name = next(iter(changed))
    with pytest.raises(ValueError, match=rf"state\.pt: is of another run \({name} was"):
        train(dataclasses.replace(TINY, **changed), checkpoint=file, resume=True)


@pytest.mark.parametrize("content", [b"", b"no state at all"])
def test_a_checkpoint_that_cannot_be_read(tmp_path, content: bytes) -> None:
    file = tmp_path / "state.pt"
    file.write_bytes(content)
    with pytest.raises(ValueError, match=r"state\.pt: cannot be read"):
        train(TINY, checkpoint=file, resume=True)
    train(TINY, checkpoint=file)
    whole = file.read_bytes()
    for part in (1, 2, 3):  # as after a disk was full
        file.write_bytes(whole[: part * len(whole) // 4])
        with pytest.raises(ValueError, match=r"state\.pt: cannot be read"):
            train(TINY, checkpoint=file, resume=True)
    torch.save({"something": 1}, file)
    with pytest.raises(ValueError, match=r"state\.pt: cannot be read"):
        train(TINY, checkpoint=file, resume=True)


# The command


def test_results_collect_runs_and_train_only_what_is_missing(tmp_path, capsys) -> None:
    file = tmp_path / "new" / "results.json"
    options = [*OPTIONS, "--results", str(file), "--policy", "none", "flip"]
    assert main([*options, "--seed", "0"]) == 0
    assert main([*options, "--seed", "0", "1"]) == 0
    assert "2 runs were in" in capsys.readouterr().out
    content = json.loads(file.read_text())
    done = [(run["policy"], run["seed"]) for run in content["runs"]]
    assert done == [("none", 0), ("flip", 0), ("none", 1), ("flip", 1)]
    assert content["command"].startswith("python -m d2lext.train --epochs 2")
    assert len(read_runs()) == 4


def test_every_combination_of_alphas_is_trained(tmp_path) -> None:
    file = tmp_path / "results.json"
    alphas = ["--mixup-alpha", "0", "0.5", "--cutmix-alpha", "0", "1"]
    assert main([*OPTIONS, *alphas, "--results", str(file)]) == 0
    runs = json.loads(file.read_text())["runs"]
    done = [(run["mixup_alpha"], run["cutmix_alpha"]) for run in runs]
    assert done == [(0, 0), (0, 1), (0.5, 0), (0.5, 1)]


def test_results_from_before_there_was_mixup_count(tmp_path, capsys) -> None:
    file = tmp_path / "results.json"
    assert main([*OPTIONS, "--results", str(file)]) == 0
    content = json.loads(file.read_text())
    del content["runs"][0]["mixup_alpha"], content["runs"][0]["cutmix_alpha"]
    file.write_text(json.dumps(content))
    assert main([*OPTIONS, "--results", str(file)]) == 0
    assert "1 runs were in" in capsys.readouterr().out


@pytest.mark.parametrize("content", ["", "{}", '{"runs": 1', "[]"])
def test_results_that_are_none_are_not_overwritten(tmp_path, content, capsys) -> None:
    file = tmp_path / "results.json"
    file.write_text(content)
    assert main([*OPTIONS, "--results", str(file)]) == 1
    assert f"--results {file}: holds no runs" in capsys.readouterr().err
    assert file.read_text() == content


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--policy", "flip+turn"], "policy: 'flip+turn' has a part 'turn'"),
        (["--epochs", "0"], "epochs: "),
        (["--resume"], "--resume: needs --checkpoint"),
        (["--seed", "0", "1", "--checkpoint", "x"], "--checkpoint: is for one run"),
        (["--root", "nowhere"], "root: there is no folder"),
    ],
)
def test_errors_are_one_line(options, words, capsys) -> None:
    assert main([*OPTIONS, *options]) == 1
    err = capsys.readouterr().err
    assert words in err and err.count("\n") == 1


def test_an_interrupt_has_an_exit_code_of_its_own(monkeypatch, capsys) -> None:
    def interrupt(*args) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(command, "_run_all", interrupt)
    assert main(OPTIONS) == 130
    assert "what was measured is recorded" in capsys.readouterr().err


def test_no_amp_is_float32() -> None:
    assert main([*OPTIONS, "--no-amp"]) == 0
    assert read_runs()[-1]["bf16"] is False


def test_the_command_needs_little_more_than_torch() -> None:
    program = (
        "import sys, d2lext.train\n"
        "for name in ('IPython', 'matplotlib', 'pandas', 'd2l', 'ipywidgets'):\n"
        "    assert name not in sys.modules, name"
    )
    subprocess.run([sys.executable, "-c", program], check=True)


def test_help() -> None:
    ask = [sys.executable, "-m", "d2lext.train", "--help"]
    out = subprocess.run(ask, capture_output=True, text=True, check=True).stdout
    for field in dataclasses.fields(Config):
        name = "no-amp" if field.name == "amp" else field.name.replace("_", "-")
        assert f"--{name}" in out
