"""The experiments of lessons 9 and 10, and the film and the camera that they use."""

import json

import pytest
import torch
from torchvision.transforms.v2 import functional

from d2lext.images import read_cifar10
from d2lext.questions import film, new_camera
from d2lext.train import Config
from tools.experiments import questions


@pytest.fixture(autouse=True)
def environment(monkeypatch) -> None:
    monkeypatch.setenv("D2LEXT_CIFAR10", "sample")
    monkeypatch.setenv("D2LEXT_RUNS", "")


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
    """Frame by frame: windows of the padded image that move by a pixel at most."""
    X = read_cifar10(True).X[:3] // 2  # so that nothing is clipped at white
    torch.manual_seed(0)
    clips = film(X, 5).reshape(3, 5, 32, 32, 3)
    assert torch.equal(clips[:, 0], X)
    padded = functional.pad(X.permute(0, 3, 1, 2), [4] * 4, padding_mode="edge")
    windows = padded.unfold(2, 32, 1).unfold(3, 32, 1)  # (3, 3, 9, 9, 32, 32)
    windows = windows.permute(0, 2, 3, 4, 5, 1).float()  # (3, 9, 9, 32, 32, 3)
    for clip, places in zip(clips, windows, strict=True):
        before, lights = torch.tensor([4, 4]), set()
        for frame in clip.float():
            # The light is one factor for the frame, to the nearest integer.
            light = (places * frame).sum((2, 3, 4)) / places.square().sum((2, 3, 4))
            fits = (places * light[..., None, None, None] - frame).abs().mean((2, 3, 4))
            place = torch.tensor(divmod(fits.argmin().item(), 9))
            assert fits.min() < 2 and (place - before).abs().max() <= 1
            lights.add(round(light[tuple(place)].item() * 20))
            before = place
        assert len(lights) > 1


def test_the_new_camera_is_tilted_blurred_and_dark() -> None:
    X = read_cifar10(True).X[:50]
    Y = new_camera(X)
    assert Y.shape == X.shape and Y.dtype == torch.uint8 and Y.is_contiguous()
    assert Y[:, 0, 0].max() == 0  # a corner
    middle = slice(12, 20)  # which the tilt leaves inside
    bright = X[:, middle, middle].float().mean().item() / 2
    assert Y[:, middle, middle].float().mean().item() == pytest.approx(bright, rel=0.1)
    steps = [Z[:, 12:20, 12:20].float().diff(dim=2).abs().mean() for Z in (X, 2 * Y)]
    assert steps[1] < 0.8 * steps[0]
