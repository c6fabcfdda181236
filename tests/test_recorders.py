"""The commands that record the ladder, and the experiments of lesson 10."""

import json

import pytest
import torch
from torchvision.transforms.v2 import functional

from d2lext.images import read_cifar10
from d2lext.train import KEYS, Config, Results
from tools.experiments import ladder, questions


@pytest.fixture(autouse=True)
def environment(monkeypatch) -> None:
    monkeypatch.setenv("D2LEXT_CIFAR10", "sample")
    monkeypatch.setenv("D2LEXT_RUNS", "")


def runs(file) -> list[dict]:
    return json.loads(file.read_text())["runs"]


def test_the_ladder_is_climbed_once(tmp_path, capsys) -> None:
    file = tmp_path / "ladder.json"
    options = ["--epochs", "1", "--num-train", "60", "--widths", "8", "8", "8"]
    options += ["--results", str(file)]
    assert ladder.main([*options, "--seed", "0"]) == 0
    assert [ladder.rung(run) for run in runs(file)] == list(ladder.RUNGS)
    capsys.readouterr()
    assert ladder.main([*options, "--seed", "0", "1"]) == 0
    assert len(runs(file)) == 2 * len(ladder.RUNGS)
    assert "seed 0" not in capsys.readouterr().out


def test_a_run_of_no_rung() -> None:
    run = {"policy": "flip", "mixup_alpha": 0.3, "cutmix_alpha": 0.0}
    assert ladder.rung(run) is None


@pytest.mark.parametrize("command", [ladder, questions])
def test_a_file_without_runs_is_not_overwritten(command, tmp_path, capsys) -> None:
    file = tmp_path / "mine.json"
    file.write_text("my notes")
    options = ["--question", "3"] if command is questions else []
    assert command.main([*options, "--results", str(file)]) == 1
    assert "holds no runs" in capsys.readouterr().err
    assert file.read_text() == "my notes"


def test_questions_are_asked_once(tmp_path, monkeypatch) -> None:
    asked = []

    def question(seed):
        asked.append(seed)
        yield "a", {"test_acc": seed / 10}
        yield "b", {"test_acc": 0.5}
        if seed == 2:
            raise KeyboardInterrupt

    monkeypatch.setitem(questions.QUESTIONS, 3, question)
    file = tmp_path / "asked.json"
    options = ["--question", "3", "--results", str(file), "--seed"]
    assert questions.main([*options, "1", "2"]) == 130
    assert [(row["seed"], row["variant"]) for row in runs(file)] == [(1, "a"), (1, "b")]
    assert questions.main([*options, "0", "1"]) == 0
    assert asked == [1, 2, 0]
    assert len(runs(file)) == 4 and "sample" in runs(file)[0]["data"]


@pytest.mark.parametrize("question", [3, 10, 12, 13])
def test_every_experiment_runs(question, monkeypatch) -> None:
    def quick(X, y, X_test, y_test, seed, policy="none", seen=0, augs=None):
        config = Config(policy, seed, 1, batch_size=1000, widths=(8, 8, 8))
        data = (X[::20], y[::20], X_test[::20], y_test[::20])
        trained = questions.train(config, data=data, augs=augs)
        return trained.net, trained.run

    monkeypatch.setattr(questions, "_fit", quick)
    arguments = {"number": 200} if question == 13 else {}
    rows = list(questions.QUESTIONS[question](0, **arguments))
    assert len({variant for variant, _ in rows}) == len(rows) >= 4
    assert all(0 <= value <= 1 for _, numbers in rows for value in numbers.values())


def test_only_the_chosen_pictures_are_augmented_and_anew_each_time() -> None:
    X, y, *_ = read_cifar10(True)
    X, y, chosen = X[:200], y[:200], y[:200] == questions.CAT
    strong = questions.augmentations("all")
    dataset = questions.Only(strong, chosen).dataset(X, y)
    order = torch.randperm(200, generator=torch.Generator().manual_seed(0))
    plain = X[order].permute(0, 3, 1, 2) / 255
    first, second = (dataset.__getitems__(order.tolist())[0] for _ in range(2))
    for seen in (first, second):
        changed = (seen != plain).flatten(1).any(1)
        assert torch.equal(changed, chosen[order])
    assert (first != second).flatten(1).any(1).sum() == chosen.sum() > 10
    torch.manual_seed(0)
    seen, _ = dataset.__getitems__(order.tolist())
    torch.manual_seed(0)
    assert torch.equal(seen[chosen[order]], strong(plain)[chosen[order]])


def test_a_film_shows_its_picture() -> None:
    """Frame by frame: windows of the padded picture that move by a pixel at most."""
    X = read_cifar10(True).X[:3] // 2  # so that nothing is cut off at white
    torch.manual_seed(0)
    clips = questions.film(X, 5).reshape(3, 5, 32, 32, 3)
    assert torch.equal(clips[:, 0], X)
    padded = functional.pad(X.permute(0, 3, 1, 2), [4] * 4, padding_mode="edge")
    windows = padded.unfold(2, 32, 1).unfold(3, 32, 1)  # (3, 3, 9, 9, 32, 32)
    windows = windows.permute(0, 2, 3, 4, 5, 1).float()  # (3, 9, 9, 32, 32, 3)
    for clip, places in zip(clips, windows, strict=True):
        before = torch.tensor([4, 4])
        for frame in clip.float():
            # The light is one factor for the frame, to the nearest whole value.
            light = (places * frame).sum((2, 3, 4)) / places.square().sum((2, 3, 4))
            fits = (places * light[..., None, None, None] - frame).abs().mean((2, 3, 4))
            place = torch.tensor(divmod(fits.argmin().item(), 9))
            assert fits.min() < 2 and (place - before).abs().max() <= 1
            before = place


def test_the_new_camera_is_dark_and_blurred() -> None:
    X = read_cifar10(True).X[:50]
    Y = questions.new_camera(X)
    assert Y.shape == X.shape and Y.dtype == torch.uint8
    middle = slice(12, 20)  # which the tilt leaves inside
    bright = X[:, middle, middle].float().mean().item() / 2
    assert Y[:, middle, middle].float().mean().item() == pytest.approx(bright, rel=0.1)
    steps = [Z[:, 12:20, 12:20].float().diff(dim=2).abs().mean() for Z in (X, 2 * Y)]
    assert steps[1] < 0.8 * steps[0]


def test_two_commands_may_share_a_file(tmp_path) -> None:
    file, run = tmp_path / "runs.json", {key: 0 for key in KEYS}
    first, second = (Results(file, name, KEYS) for name in ("first", "second"))
    for i in range(3):
        first.add(run | {"seed": i})
        second.add(run | {"seed": 10 + i})
    assert [r["seed"] for r in runs(file)] == [0, 10, 1, 11, 2, 12]


@pytest.mark.parametrize(
    "content", ["", "[]", '{"runs": 5}', '{"runs": [1]}', '{"runs": [{"question": 3}]}']
)
@pytest.mark.parametrize("command", [ladder, questions])
def test_a_file_of_something_else_is_named(tmp_path, capsys, content, command) -> None:
    file = tmp_path / "other.json"
    file.write_text(content)
    options = [] if command is ladder else ["--question", "3"]
    assert command.main([*options, "--results", str(file)]) == 1
    assert f"{file}: holds no runs of this command" in capsys.readouterr().err
    assert file.read_text() == content
