"""A bench for policies: set strengths, train, and compare accuracy on held-out images.

A try is a setting, trained with one or more seeds on the bundled sample, in a process
of its own. Tries are recorded like other runs (see `d2lext.runs`), so that the next
bench shows them again.
"""

import dataclasses
import html
import io
import itertools
import json
import math
import threading
from collections.abc import Iterable

import ipywidgets as widgets
import torch
from matplotlib.figure import Figure
from PIL import Image

from d2lext import batch, expect, mixup
from d2lext.compare import PARTS, augmentations, difference
from d2lext.images import read_sample
from d2lext.runs import final, read_runs, record_run
from d2lext.train import Config
from d2lext.widgets import sheet
from d2lext.widgets.sliders import Stored, make_control, seeded
from d2lext.widgets.worker import WORKER

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


def bench(num_epochs: int = 10, runs: Iterable[dict] = ()) -> "Bench":
    """Return the bench; each try trains num_epochs. runs: shown beside your own."""
    return Bench(Config(epochs=num_epochs, num_val=NUM_VAL), runs)


def command(config: Config, seeds: Iterable[int]) -> str:
    """The shell command that trains this setting, with the same results."""
    names = ("policy", "epochs", "mixup_alpha", "cutmix_alpha", "num_val")
    words = ["python -m d2lext.train --root sample"]
    for name in names:
        if value := getattr(config, name):
            words.append(f"--{name.replace('_', '-')} {value}")
    return " ".join([*words, "--seed", *map(str, seeds)])


def half_width(accs: list[float], n: int) -> float:
    """Half of the 95% interval of a mean accuracy on n images, one value per seed.

    It covers the choice of images, as if all seeds erred on the same ones, and from
    three seeds on the choice of seeds, too (Student's t).
    """
    acc = sum(accs) / len(accs)
    half = 1.96 * math.sqrt(acc * (1 - acc) / n)
    if len(accs) < 3:
        return half
    # A difference from one number errs by s * sqrt(1 / k + 1), a mean by s / sqrt(k).
    return math.hypot(half, difference(accs, [0], 1)[1] / math.sqrt(len(accs) + 1))


def _row(part: str) -> widgets.HBox:
    """A checkbox for the part, and a slider for each of its numbers."""
    row = [make_control(part, part == "flip")]
    row += [
        make_control(f"{part}: {name}", ends) for name, ends in CONTROLS[part].items()
    ]
    for child in row:
        child.layout.width = "320px"
    return widgets.HBox(row, layout={"flex_flow": "row wrap"})


def _alphas(config: Config) -> dict[str, float]:
    """The alphas of the ways of mixing that are on."""
    alphas = {name: getattr(config, f"{name}_alpha") for name in MIXES}
    return {name: alpha for name, alpha in alphas.items() if alpha}


def _fixed(run: dict) -> str:
    """What must be the same in the runs of a bench."""
    names = {"data", "weight", *vars(Config())} - {"seed", *SET}
    return json.dumps([run.get(name) for name in sorted(names)])


def _measured(runs: Iterable[dict]) -> tuple[float, float, str]:
    """The mean accuracy in percent, half of its interval, and both in words."""
    accs, seconds = final(runs), final(runs, "seconds")
    acc, half = 100 * sum(accs) / len(accs), 100 * half_width(accs, NUM_VAL)
    words = f"{acc:.1f} ± {half:.1f} %, {len(accs)} seed{'s' * (len(accs) > 1)}"
    return acc, half, f"{words}, {sum(seconds) / len(seconds):.0f} s"


class Bench(Stored):
    """The widget that `bench` returns. `config` is the setting of the controls; `tries`
    maps each setting to its runs by seed; `revealed` has the runs on test images."""

    def __init__(self, base: Config, runs: Iterable[dict]) -> None:
        self._base, self.tries, self.revealed = base, {}, []
        self._X, self._y, *_ = read_sample("train")
        rows = {part: _row(part) for part in CONTROLS}
        self.controls = {part: row.children for part, row in rows.items()}
        self.progress, self._output = widgets.IntProgress(), widgets.HTML()
        acts = {
            "Train": self._train,
            "Stop": self._stop,
            "Reveal test, once": self._reveal,
        }
        self.buttons = {name: widgets.Button(description=name) for name in acts}
        for name, button in self.buttons.items():
            button.on_click(acts[name])
        for child in itertools.chain(*self.controls.values()):
            child.observe(self._redraw, "value")
        for run in (*runs, *read_runs()):
            self._keep(run)
        self._ready()
        buttons = widgets.HBox([*self.buttons.values(), self.progress])
        super().__init__([*rows.values(), buttons, self._output])

    @property
    def config(self) -> Config:
        rows = {part: row for part, row in self.controls.items() if row[0].value}
        on = {part: [round(c.value, 10) for c in row[1:]] for part, row in rows.items()}
        alphas = {f"{name}_alpha": on.pop(name, [0.0])[0] for name in MIXES}
        parts = [
            part
            + ",".join(f"{n:g}" for n in on[part] if on[part] != [*PARTS[part][1:]])
            for part in on
        ]
        policy = "+".join(parts) or "none"
        return dataclasses.replace(self._base, policy=policy, **alphas)

    def _keep(self, run: dict) -> None:
        """Add a run to the tries, unless it differs in more than controls and seed."""
        if "revealed" in run:
            self.revealed.append(run)
        elif _fixed(run) == _fixed(vars(self._base) | {"data": "sample"}):
            if "(" in run["policy"]:
                return  # trained with a function instead of a policy
            config = dataclasses.replace(self._base, **{n: run[n] for n in SET})
            if len(run["test_acc"]) == config.epochs:  # it was not stopped
                self.tries.setdefault(config, {}).setdefault(run["seed"], run)

    # Training

    def _train(self, _=None) -> None:
        """Train the setting with its first seed that has no finished run."""
        seeds = self.tries.get(self.config, {})
        seed = next(seed for seed in itertools.count() if seed not in seeds)
        self._start([dataclasses.replace(self.config, seed=seed)])

    def _stop(self, _=None) -> None:
        WORKER.stop.value = True

    def _reveal(self, _=None) -> None:
        # The sample holds out images of their own, so that the nets stay the same.
        config, seeds = self.config, self.tries.get(self.config, ())
        if not seeds:
            return self._ready("Not revealed: train this setting first")
        self._start([dataclasses.replace(config, seed=s, num_val=0) for s in seeds])

    def _start(self, configs: list[Config]) -> None:
        for name, button in self.buttons.items():
            button.disabled = name != "Stop"
        self.progress.value, self.progress.max = 0, len(configs) * self._base.epochs
        # In a thread, so that the kernel stays free.
        threading.Thread(target=self._follow, args=(configs,), daemon=True).start()

    def _follow(self, configs: list[Config]) -> None:
        """Train these and show the results; test accuracies only if all finish."""
        words, runs = "", []
        for config in configs:
            how, run = WORKER.train(config, self._count)
            if how == "failed":
                words = run
            elif config.num_val or how == "done":
                runs.append(run)
            if how == "stopped":
                acc, epochs = 100 * run["test_acc"][-1], len(run["test_acc"])
                words = f"Stopped after {epochs} epochs, at {acc:.1f} %"
            if how != "done":
                break
        if not configs[0].num_val:
            finished = len(runs) == len(configs)
            runs = [run | {"revealed": len(self.tries)} for run in runs if finished]
        for run in runs:
            record_run(run)
            self._keep(run)
        self._ready(words)

    def _count(self) -> None:
        self.progress.value += 1

    # What is shown

    def _rows(self) -> list[tuple]:
        """The accuracy, half interval, description and command of each try."""
        rows = []
        for i, (config, runs) in enumerate(self.tries.items(), 1):
            mixes = [f"{name}{alpha:g}" for name, alpha in _alphas(config).items()]
            acc, half, words = _measured(runs.values())
            line = f"{i}: {'+'.join([config.policy, *mixes])}: {words}"
            rows.append((acc, half, line, command(config, sorted(runs))))
        return rows

    @property
    def text(self) -> str:
        """What is printed under the chart, and stored with the page."""
        lines = [f"{line}\n{command}" for *_, line, command in self._rows()]
        lines.append(f"Tries on the same {NUM_VAL:,} held-out images: {len(lines)}")
        if self.revealed:
            of = "{policy}, one of {revealed}".format_map(self.revealed[0])
            words = f"Test images, revealed for {of}: {_measured(self.revealed)[2]}"
            lines.append(f"{words}. Do not choose by them again")
        return "\n".join(lines)

    def _ready(self, words: str = "") -> None:
        """Show the tries, and words; then wait for a click."""
        self._words, self._chart = html.escape(words), _chart(self._rows())
        self._redraw()
        for name, button in self.buttons.items():
            button.disabled = name == "Stop"
        self.buttons["Reveal test, once"].disabled = not self.tries or bool(
            self.revealed
        )

    def _redraw(self, _=None) -> None:
        seen, chart = sheet.contact_sheet(self._images(), 10, 64), self._chart
        image = Image.new("RGB", (seen.width, seen.height + chart.height), "white")
        image.paste(seen)
        image.paste(chart, (0, seen.height))
        self.jpeg = sheet.jpeg(image)
        self._output.value = (
            f'<p role="alert" style="color: {sheet.FRAME}">{self._words}</p>'
            f'<img class="d2lext-bench" style="max-width: 100%" alt="What the net sees '
            f'with {self.config.policy}, and a chart of the tries" '
            f'src="data:image/jpeg;base64,{self.jpeg}"><pre style="white-space: '
            f'pre-wrap">{html.escape(self.text)}</pre>'
        )

    def _images(self) -> list[Image.Image]:
        """Training images as the net sees them; half each with two ways of mixing."""
        config = self.config
        alphas = _alphas(config)
        with seeded(0):
            X = augmentations(config.policy)(self._X[:20].permute(0, 3, 1, 2))
            parts = list(batch.to_float(X).chunk(len(alphas) or 1))
            for i, (name, alpha) in enumerate(alphas.items()):
                labels = self._y[: len(parts[i])]
                parts[i] = MIXES[name](parts[i], labels, alpha, per_example=True)[0]
        return [expect.image(img) for img in torch.cat(parts)]


def _chart(rows: list[tuple]) -> Image.Image:
    """A chart of each try's held-out accuracy and interval."""
    figure = Figure((7.06, 0.8 + 0.4 * len(rows)), 100, layout="constrained")
    ax = figure.subplots()
    for i, (acc, half, *_) in enumerate(rows):
        ax.errorbar(acc, i, xerr=half, fmt="oC0", capsize=3)
    lines = ["\n".join(line.rsplit(": ", 1)) for *_, line, _ in rows]
    ax.set_yticks(range(len(rows)), lines, fontsize=8)
    ax.set(xlabel="held-out accuracy, %", ylim=(max(1, len(rows)) - 0.5, -0.5))
    figure.savefig(buffer := io.BytesIO())
    return Image.open(buffer).convert("RGB")
