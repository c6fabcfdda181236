"""The policy bench, with its real process: each test trains for seconds."""

import base64
import gc
import io
import json
import multiprocessing
import os
import re
import shlex
import signal
import subprocess
import sys
import time

import pytest
import torch
from PIL import Image
from torchvision.transforms.v2 import functional as TF

import d2lext as d2l
from d2lext.compare import PARTS, augmentations
from d2lext.images import read_sample
from d2lext.runs import read_runs
from d2lext.train import Config
from d2lext.widgets.worker import submit


def wait(done) -> None:
    start = time.monotonic()
    while not done():
        assert time.monotonic() < start + 300
        time.sleep(0.02)


def click(bench, name: str) -> None:
    """Press a button and wait until what it started is over."""
    button = getattr(bench, name)
    assert not button.disabled
    button.click()
    wait(lambda: bench.stop.disabled)


def process() -> multiprocessing.Process:
    """The process that trains."""
    gc.collect()  # loaders of other tests may still have workers
    (child,) = multiprocessing.active_children()
    return child


def recorded(seed: int = 0, acc: float = 0.5, epochs: int = 1, **changed) -> dict:
    """A run as `train` records it."""
    run = dict(vars(Config(epochs=epochs, num_val=1000, seed=seed)), data="sample")
    return run | {"test_acc": [acc] * epochs, "seconds": 2.0} | changed


def keep(*runs: dict) -> None:
    with open(os.environ["D2LEXT_RUNS"], "a") as file:
        file.writelines(json.dumps(run) + "\n" for run in runs)


def test_every_part_at_the_ends_of_its_strengths_is_a_policy() -> None:
    bench = d2l.bench(1)
    assert bench.controls.keys() > PARTS.keys() | {"mixup", "cutmix"}
    for control in bench.controls.values():
        ends = [control.min, control.max] if hasattr(control, "min") else [True]
        for control.value in ends:
            assert augmentations(bench.config.policy).transforms


def test_the_sheet_shows_what_the_net_will_see() -> None:
    bench = d2l.bench(1)
    bench.controls["flip chance"].value = 1.0
    X = read_sample("train").X[:20].permute(0, 3, 1, 2)
    shown = torch.stack([*map(TF.pil_to_tensor, bench._images())])
    assert torch.equal(shown, X.flip(3))
    for part in ("mixup", "cutmix"):
        bench.controls[part].value = True
    mixed = torch.stack([*map(TF.pil_to_tensor, bench._images())])
    assert (mixed != shown).flatten(1).any(1).sum() > 15


def test_a_restart_keeps_tries_and_takes_no_other_runs() -> None:
    keep(
        *(recorded(seed, acc) for seed, acc in enumerate((0.5, 0.6, 0.7))),
        *(recorded(seed, 0.9, policy="all") for seed in (0, 1)),
        *(recorded(**{k: v}) for k, v in {"lr": 1.0, "num_val": 0}.items()),
        *(recorded(data="folder"), recorded(policy="Compose()"), recorded(epochs=2)),
        *(recorded(weight=[1] * 10), recorded(test_acc=[]), {"test_acc": [0.9]}),
    )
    bench = d2l.bench(1, [recorded(mixup_alpha=0.5)])
    assert [f"{options}: {words}" for options, *_, words, _ in bench.tries] == [
        "--policy flip+crop --mixup-alpha 0.5: 50.0 ± 3.1 %, 1 seed, 2 s",
        # Of Student's t, 24.8, and of 3.0.
        "--policy flip+crop: 60.0 ± 25.0 %, 3 seeds, 2 s",
        "--policy all: 90.0 ± 1.9 %, 2 seeds, 2 s",
    ]
    stored = bench._repr_mimebundle_()
    assert stored["text/plain"].endswith("held-out images: 3")
    img = Image.open(io.BytesIO(base64.b64decode(stored["image/jpeg"])))
    assert img.format == "JPEG" and img.height > d2l.bench(3).sheet.height + 100


def test_a_try_equals_its_command_and_a_seed_can_be_added(tmp_path) -> None:
    bench = d2l.bench(1)
    assert bench.config == Config("flip", epochs=1, num_val=1000)
    for part in ("flip", "crop", "color", "mixup", "cutmix"):
        bench.controls[part].value = part != "flip"
    bench.controls["crop padding"].value = 2
    bench.controls["color hue"].value = 0.1
    alphas = {"mixup_alpha": 0.5, "cutmix_alpha": 1.0}
    assert bench.config == Config(
        "crop2+color0.5,0.5,0.5,0.1", epochs=1, num_val=1000, **alphas
    )
    click(bench, "train")
    click(bench, "train")
    assert bench.progress.value == 1
    line = re.search("python -m .* --seed 0 1", bench._output.value)[0]
    words = [sys.executable, *shlex.split(line)[1:]]
    shell = str(tmp_path / "shell")
    env = os.environ | {"D2LEXT_RUNS": shell, "D2LEXT_CIFAR10": "/nowhere"}
    subprocess.run(words, env=env, check=True, capture_output=True)
    own, again = read_runs(), read_runs(shell)
    for run in (*own, *again):
        for name in ("time", "seconds", "wall_seconds"):
            del run[name]
    assert own == again and [run["seed"] for run in own] == [0, 1]
    assert d2l.bench(1).text == bench.text


@pytest.mark.parametrize("interrupt", [False, True])
def test_what_is_stopped_keeps_its_epochs(interrupt) -> None:
    bench = d2l.bench(30)
    bench.train.click()
    wait(lambda: bench.progress.value)
    bench.controls["crop"].value = True  # the kernel is free
    assert "--policy flip+crop --seed" in bench._output.value
    bench.controls["crop"].value = False
    assert bench.train.disabled and bench.reveal.disabled and not bench.stop.disabled
    if interrupt:  # as Jupyter does to a kernel and all that it started
        os.kill(process().pid, signal.SIGINT)
        wait(lambda: bench.stop.disabled)
    else:
        click(bench, "stop")
    assert len(read_runs()[0]["test_acc"]) < 30
    assert "stopped after epoch" in bench._output.value and not bench.tries
    keep(recorded(policy="none", epochs=30))
    bench = d2l.bench(30)
    assert bench.reveal.disabled  # of flip, which was stopped
    bench.controls["flip"].value = False
    assert not bench.reveal.disabled


def test_an_error_and_a_process_that_died_are_shown_in_words() -> None:
    bench = d2l.bench(2)
    bench._begin(Config("flip", epochs=2, num_val=1000, num_train=10**6))
    wait(lambda: bench.stop.disabled)
    assert "ValueError: num_train: 1000000 wanted" in bench._output.value
    bench.train.click()
    wait(lambda: bench.progress.value)
    process().kill()
    wait(lambda: bench.stop.disabled)
    assert "process pool was terminated" in bench._output.value
    click(bench, "train")
    assert len(bench.tries) == 1 and "terminated" not in bench._output.value


KILLED = """
import multiprocessing, os, signal
from d2lext.train import Config
from d2lext.widgets.worker import submit
submit(Config(epochs=1, num_train=250), {}).result()
print(multiprocessing.active_children()[0].pid, flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_the_process_ends_with_a_kernel_that_was_killed() -> None:
    # Its pipe stays open until the last process that holds it has ended.
    command = [sys.executable, "-c", KILLED]
    told = subprocess.run(command, stdout=subprocess.PIPE, timeout=300)
    assert told.returncode == -signal.SIGKILL and int(told.stdout)


def test_the_test_set_is_revealed_once() -> None:
    keep(recorded(policy="none"))
    bench = d2l.bench(1)
    bench.controls["flip"].value = False
    click(bench, "reveal")
    for made in (bench, d2l.bench(1), d2l.bench(5)):
        made.controls["flip"].value = False
        assert made.reveal.disabled
        assert "revealed for --policy none, one of 1" in made._output.value
    assert len(read_runs()) == 2 and len(bench.tries) == 1
    expected = submit(Config("none", epochs=1), {}).result()
    assert read_runs()[1]["test_acc"] == expected["test_acc"]
