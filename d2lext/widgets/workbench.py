"""A bench for policies: set strengths, train, and compare accuracy on held-out images.

A try is a setting, trained with one or more seeds on the bundled sample. Its runs are
recorded like all others (see `d2lext.runs`), and the next bench shows them again.
"""

import contextlib
import functools
import math
import threading
from collections.abc import Iterable
from concurrent.futures import wait
from dataclasses import replace

import ipywidgets as widgets

from d2lext import batch, draw, mixup
from d2lext.compare import PARTS, augmentations, difference
from d2lext.images import read_sample
from d2lext.runs import final, grouped, read_runs
from d2lext.train import Config
from d2lext.widgets import sheet, worker
from d2lext.widgets.sliders import Explorer, button

NUM_VAL = 1000  # all of the sample
PART = (0.0, 1.0, 0.5)
# The numbers of each part, and mixing's alpha: low, high, start. In the order of the
# policy: what takes uint8 comes before what makes floats.
CONTROLS = {
    "flip": {"chance": PART},
    "alternate": {},
    "crop": {"padding": (1, 8, 4)},
    "trivialaugment": {},
    "randaugment": {"operations": (1, 4, 2), "magnitude": (0, 30, 9)},
    "rescale": {"smallest area": (0.1, 1.0, 0.3)},
    "color": dict.fromkeys(("brightness", "contrast", "saturation"), PART)
    | {"hue": (0.0, 0.5, 0.25)},
    "erase": {"chance": PART},
    "mixup": {"alpha": (0.1, 2.0, 0.5)},
    "cutmix": {"alpha": (0.1, 2.0, 1.0)},
}
MIXES = {"mixup": mixup.mixup_data, "cutmix": mixup.cutmix_data}
SET = ("policy", "mixup_alpha", "cutmix_alpha")  # by the controls
read = functools.cache(read_sample)


def bench(num_epochs: int = 10, runs: Iterable[dict] = ()) -> "Bench":
    """Return the bench; each try trains num_epochs. runs: shown beside your own."""
    return Bench(Config(epochs=num_epochs, num_val=NUM_VAL), runs)


def setting(values: dict[str, object]) -> dict[str, object]:
    """The policy and the alphas that these values of the controls stand for."""
    given = {f"{mix}_alpha": values[mix] * values[f"{mix} alpha"] for mix in MIXES}
    parts = []
    for part in (part for part in CONTROLS if values[part] and part not in MIXES):
        numbers = [values[f"{part} {name}"] for name in CONTROLS[part]]
        default = numbers == [*PARTS[part][1:]]
        parts.append(part if default else part + ",".join(f"{n:g}" for n in numbers))
    return given | {"policy": "+".join(parts) or "none"}


def look(**values: object) -> list:
    """Training images as the net sees them; half each with two ways of mixing."""
    X, y, *_ = read("train")
    X = augmentations(setting(values)["policy"])(X[:20].permute(0, 3, 1, 2))
    X, mixes = batch.to_float(X), [mix for mix in MIXES if values[mix]]
    for i, mix in enumerate(mixes):
        half = slice(i, 20, len(mixes))
        X[half] = MIXES[mix](X[half], y[half], values[f"{mix} alpha"], True)[0]
    return list(X)


def options(run: dict) -> str:
    """What the controls set in a run, as options of the command."""
    return " ".join(f"--{n.replace('_', '-')} {run[n]}" for n in SET if run[n])


def command(*runs: dict) -> str:
    """The shell command that trains like these runs, which differ only in seeds."""
    fixed = "--root sample --epochs {epochs} --num-val {num_val}".format_map(runs[0])
    seeds = " ".join(str(run["seed"]) for run in runs)
    return f"python -m d2lext.train {fixed} {options(runs[0])} --seed {seeds}"


def measured(*runs: dict) -> tuple[float, float, str]:
    """The mean accuracy in percent, half of its 95% interval, and both in words."""
    accs, seconds, k = final(runs), final(runs, "seconds"), len(runs)
    acc = sum(accs) / k
    half = 1.96 * math.sqrt(acc * (1 - acc) / NUM_VAL)  # if all err on the same images
    if k > 2:  # Student's t; against one number it is sqrt(k + 1) times as wide
        half = math.hypot(half, difference(accs, [0], 1)[1] / math.sqrt(k + 1))
    words = f"{100 * acc:.1f} ± {100 * half:.1f} %, {k} seed{'s' * (k > 1)}"
    return 100 * acc, 100 * half, f"{words}, {sum(seconds) / k:.0f} s"


class Bench(Explorer):
    """The widget that `bench` returns: an explorer of what the net sees, and the tries.

    `config` is the setting of the controls; `runs` maps the command of each finished
    run to it; `revealed` is the run on test images, if there is one.
    """

    def __init__(self, base: Config, runs: Iterable[dict]) -> None:
        self._base, self._job, self.runs, self.revealed = base, None, {}, None
        for run in (*runs, *read_runs()):
            self._keep(run)
        self.train = button("Train", self._train)
        self.stop = button("Stop", worker.stop)
        self.reveal = button("Reveal test, once", self._reveal)
        self.progress = widgets.IntProgress(max=base.epochs)
        controls, first = {}, {"grid_area": "auto / 1"}  # ipywidgets undoes grid_column
        for part, numbers in CONTROLS.items():
            on = part == "flip"
            controls[part] = widgets.Checkbox(on, description=part, layout=first)
            controls |= {f"{part} {name}": ends for name, ends in numbers.items()}
        super().__init__(look, None, controls, num_rows=2, num_cols=10, tile=64, seed=0)
        *controls, row, output = self.children
        row.children += (self.train, self.stop, self.reveal, self.progress)
        columns = {"grid_template_columns": "repeat(auto-fill, 400px)"}
        self.children = [widgets.GridBox(controls, layout=columns), row, output]

    @property
    def config(self) -> Config:
        return replace(self._base, seed=self.seed.value, **setting(self.values))

    @property
    def code(self) -> str:
        return command(vars(self.config))

    @property
    def tries(self) -> tuple[tuple, ...]:
        """Of each: options, accuracy, half its interval, both in words, command."""
        groups = grouped(self.runs.values(), options).items()
        return tuple((name, *measured(*runs), command(*runs)) for name, runs in groups)

    def _keep(self, run: dict) -> None:
        """Add a run, unless it was stopped, or differs in what no control sets."""
        with contextlib.suppress(AttributeError, KeyError, TypeError, ValueError):
            made = replace(self._base, **{n: run[n] for n in (*SET, "seed")})
            run = run | {"widths": tuple(run["widths"])}  # JSON has lists
            finished = len(run["test_acc"]) == run["epochs"] and "weight" not in run
            if finished and "revealed" in run:
                self.revealed = run
            elif finished and run == run | vars(made) | {"data": "sample"}:
                self.runs[command(run)] = run

    def _train(self) -> None:
        """Train the setting with its seed, or with the next that it lacks."""
        while self.code in self.runs:
            self.seed.value += 1
        self._begin(self.config)

    def _reveal(self) -> None:
        # The sample holds out images of their own, so that the net stays the same.
        self._begin(replace(self.config, num_val=0), revealed=len(self.tries))

    def _begin(self, config: Config, **mark: int) -> None:
        """Train, and watch it in a thread, so that the kernel stays free."""
        self._job = worker.submit(config, mark)
        self._redraw()
        threading.Thread(target=self._follow, daemon=True).start()

    def _follow(self) -> None:
        """Show how far the training is, and at the end its result or its error."""
        while wait([self._job], 0.05).not_done:
            self.progress.value = worker.EPOCHS.value
        with contextlib.suppress(Exception), self._errors_shown():
            self._keep(self._job.result())
            self._redraw()

    def _sheet(self):
        seen, words = super()._sheet(), "held-out accuracy, %"
        return sheet.stacked(seen, draw.intervals(self.tries, words, seen.width))

    @property
    def text(self) -> str:
        """What is printed under the chart, and stored with the page."""
        lines = [f"{words}\n{line}" for *_, words, line in self.tries]
        lines.append(f"Tries on the same {NUM_VAL:,} held-out images: {len(lines)}")
        if run := self.revealed:
            words = f"{options(run)}, one of {run['revealed']}: {measured(run)[2]}"
            lines.append(f"Test images, revealed for {words}. Do not choose by them")
        return "\n".join(lines)

    note = text

    def _show(self, alert: str = "") -> None:
        super()._show(alert)
        busy = self._job is not None and not self._job.done()
        self.train.disabled, self.stop.disabled = busy, not busy
        self.reveal.disabled = bool(busy or self.revealed or self.code not in self.runs)
