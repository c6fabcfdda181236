"""The experiments of lessons 9 and 10, and the film and the camera that they use."""

import json

import pytest
import torch

from d2lext.images import read_cifar10
from d2lext.questions import film, new_camera
from d2lext.train import Config
from tools.experiments import questions


def test_questions_are_asked_once_and_kept(tmp_path, monkeypatch, capsys) -> None:
    asked, file = [], tmp_path / "asked.json"

    def question(seed, done):
        for variant in {"a", "b"}.difference(done):
            asked.append((seed, variant))
            if seed == 2 and len(asked) == 4:
                raise KeyboardInterrupt
            yield variant, {"test_acc": seed / 10}

    monkeypatch.setitem(questions.QUESTIONS, 3, question)
    options = ["--question", "3", "--results", str(file), "--seed"]
    assert questions.main([*options, "1", "2"]) == 130
    assert questions.main([*options, "1", "2"]) == 0
    rows = json.loads(file.read_text())["runs"]
    assert sorted((row["seed"], row["variant"]) for row in rows) == sorted(set(asked))
    assert len(asked) == 5 and rows[0]["data"] == "sample"
    file.write_text("my notes")
    assert questions.main([*options, "0"]) == 1
    assert "holds no runs" in capsys.readouterr().err and file.read_text() == "my notes"


@pytest.mark.parametrize("question", questions.QUESTIONS)
def test_every_experiment_runs(question, monkeypatch) -> None:
    def quick(config, data, **how):
        config = Config(config.policy, 0, 1, batch_size=1000, widths=(8, 8, 8))
        return train(config, data=tuple(part[::20] for part in data), **how)

    train = questions.train
    monkeypatch.setattr(questions, "train", quick)
    if question == "margin":  # has a loop of its own
        few = tuple(part[::40] for part in questions.data())
        monkeypatch.setattr(questions, "data", lambda: few)
    rows = list(questions.QUESTIONS[question](0, ()))
    assert len({variant for variant, _ in rows}) == len(rows) >= 2
    assert all(0 <= value <= 1 for _, numbers in rows for value in numbers.values())


def test_recall_precision_and_average_precision() -> None:
    score, truth = torch.tensor([0.9, 0.8, 0.7, 0.2]), torch.tensor([1, 0, 1, 1]).bool()
    numbers = questions.found(score, truth)
    average = (1 + 2 / 3 + 3 / 4) / 3
    assert list(numbers.values()) == pytest.approx([2 / 3, 2 / 3, average])


def test_only_the_chosen_images_are_augmented_and_anew_each_time() -> None:
    X, y, *_ = read_cifar10(True)
    X, y, chosen = X[:200], y[:200], y[:200] == questions.CAT
    dataset = questions.Only(questions.augmentations("all"), chosen).dataset(X, y)
    order = torch.randperm(200, generator=torch.Generator().manual_seed(0))
    plain = X[order].permute(0, 3, 1, 2) / 255
    first, second = (dataset.batch(order)[0] for _ in range(2))
    for seen in (first, second):
        assert torch.equal((seen != plain).flatten(1).any(1), chosen[order])
    assert (first != second).flatten(1).any(1).sum() == chosen.sum() > 10


def test_a_film_shows_its_image() -> None:
    """Each pixel holds its row, its column and 100, so frames tell place and light."""
    row = torch.arange(32).expand(32, 32).T
    at = torch.stack([row, row.T], -1)  # (32, 32, 2)
    X = torch.cat([6 * at, torch.full((32, 32, 1), 100)], -1).byte()
    X = X.expand(3, 32, 32, 3)
    torch.manual_seed(0)
    clips = film(X, 5).reshape(3, 5, 32, 32, 3)
    assert torch.equal(clips[:, 0], X)
    light = clips[..., 2:] / 100
    place = (clips[..., :2] / light / 6).round()  # (3, 5, 32, 32, 2)
    moved = place[:, :, 16:17, 16:17] - 16
    assert torch.equal(place, (at + moved).clamp(0, 31))  # a window of the image
    assert moved.diff(dim=1).abs().max() == 1
    assert (light == light[:, :, :1, :1]).all()
    assert clips[:, :, 0, 0, 2].int().diff(dim=1).abs().max() == 5


def test_the_new_camera_is_tilted_blurred_and_dark() -> None:
    X = read_cifar10(True).X[:50]
    Y = new_camera(X)
    assert Y.shape == X.shape and Y.dtype == torch.uint8 and Y.is_contiguous()
    assert Y[:, 0, 0].max() == 0  # a corner
    middle = slice(12, 20)  # which the tilt leaves inside
    X, Y = (Z[:, middle, middle] for Z in (X.float(), 2 * Y.float()))
    assert Y.mean().item() == pytest.approx(X.mean().item(), rel=0.1)
    assert Y.diff(dim=2).abs().mean() < 0.8 * X.diff(dim=2).abs().mean()
