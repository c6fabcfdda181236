"""A bench for policies: set strengths, train, and compare accuracy on held-out images.

A try is a setting, trained with one or more seeds on the bundled sample, in a process
of its own. Each shows the command that repeats it. Tries are recorded like other runs
(see `d2lext.runs`), so that the next bench shows them again.
"""

import dataclasses
import html
import io
import itertools
import math
import threading
from collections.abc import Iterable, Iterator

import ipywidgets as widgets
from matplotlib.figure import Figure
from PIL import Image

from d2lext import batch, expect, mixup
from d2lext.compare import PARTS, augmentations, difference
from d2lext.images import read_sample
from d2lext.runs import final, read_runs, record_run, runs_file
from d2lext.train import Config
from d2lext.widgets import sheet
from d2lext.widgets.sliders import TIP, seeded
from d2lext.widgets.worker import WORKER

NUM_VAL = 1000  # all of the sample
PART = (0, 1, 0.5, 0.05)
STRENGTHS = {  # of each part of a policy: low, high, start, step
    "flip": {"chance": PART},
    "crop": {"padding": (1, 8, 4, 1)},
    "rescale": {"smallest area": (0.1, 1, 0.3, 0.05)},
    "color": dict.fromkeys(("brightness", "contrast", "saturation"), PART)
    | {"hue": (0, 0.5, 0.25, 0.05)},
    "erase": {"chance": PART},
    "mixup": {"alpha": (0.1, 2, 0.5, 0.1)},
    "cutmix": {"alpha": (0.1, 2, 1, 0.1)},
}
MIXES = {"mixup": mixup.mixup_data, "cutmix": mixup.cutmix_data}
FIELDS = {field.name: field.default for field in dataclasses.fields(Config)}


def bench(num_epochs: int = 10, runs: Iterable[dict] = ()) -> "Bench":
    """Return the bench; each try trains num_epochs. runs: shown beside your own."""
    return Bench(Config(epochs=num_epochs, num_val=NUM_VAL), runs)


def command(config: Config, seeds: Iterable[int]) -> str:
    """The shell command that trains this setting, with the same results."""
    changed = {k: v for k, v in vars(config).items() if v != FIELDS[k] or k == "policy"}
    changed.pop("seed", None)
    words = [f"--{name.replace('_', '-')} {value}" for name, value in changed.items()]
    seeds = " ".join(map(str, seeds))
    return " ".join(["python -m d2lext.train --root sample", *words, "--seed", seeds])


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


def _controls(part: str) -> list[widgets.Widget]:
    """A checkbox for the part, and a slider for each of its numbers."""
    look = {"indent": False, "layout": {"width": "90px"}, TIP: f"{part}: on or off"}
    row = [widgets.Checkbox(value=part == "flip", description=part, **look)]
    for name, (low, high, start, step) in STRENGTHS[part].items():
        kind = widgets.IntSlider if step == 1 else widgets.FloatSlider
        look = {
            "description": name,
            TIP: f"{part}: {name}",
            "layout": {"width": "270px"},
        }
        look["style"] = {"description_width": "initial"}
        row.append(kind(start, min=low, max=high, step=step, **look))
    return row


class Bench(widgets.VBox):
    """The widget that `bench` returns. `config` is the setting of the controls; `tries`
    maps each setting to its runs by seed; `revealed` has the runs on test images."""

    _ipython_display_ = None  # ipywidgets 7 would not ask for the bundle below

    def __init__(self, base: Config, runs: Iterable[dict]) -> None:
        self._base, self.tries, self.revealed = base, {}, []
        self._X, self._y, *_ = read_sample("train")
        self.controls = {part: _controls(part) for part in STRENGTHS}
        self.choice = widgets.Dropdown(description="try", layout={"width": "90%"})
        self.progress, self._output = widgets.IntProgress(), widgets.HTML()
        acts = {
            "Train": lambda: self._start([self._fresh(self.config)]),
            "Stop": WORKER.stop,
            "Add a seed": lambda: self._start([self._fresh(self._chosen())]),
            "Reveal test, once": self._reveal,
        }
        self.buttons = {name: widgets.Button(description=name) for name in acts}
        for name, button in self.buttons.items():
            button.on_click(lambda _, act=acts[name]: act())
        for control in itertools.chain(*self.controls.values()):
            control.observe(self._redraw, "value")
        for run in (*runs, *read_runs()):
            self._keep(run)
        self._ready()
        rows = [*self.controls.values(), [*self.buttons.values(), self.progress]]
        rows = [widgets.HBox(row, layout={"flex_flow": "row wrap"}) for row in rows]
        super().__init__([*rows, self.choice, self._output])

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

    # Training

    def _chosen(self) -> Config:
        return list(self.tries)[self.choice.index]

    def _fresh(self, config: Config) -> Config:
        """The setting with its first seed that has no finished run."""
        done = self._done(config)
        seed = next(seed for seed in itertools.count() if seed not in done)
        return dataclasses.replace(config, seed=seed)

    def _reveal(self) -> None:
        # The sample holds out images of their own, so that the nets stay the same.
        config = self._chosen()
        if not (seeds := self._done(config)):
            return self._ready(config, "Not revealed: this try was stopped; add a seed")
        self._start([dataclasses.replace(config, seed=s, num_val=0) for s in seeds])

    def _start(self, configs: list[Config]) -> None:
        for name, button in self.buttons.items():
            button.disabled = name != "Stop"
        self.progress.value, self.progress.max = 0, len(configs) * self._base.epochs
        # In a thread, so that the kernel stays free.
        threading.Thread(target=self._follow, args=(configs,), daemon=True).start()

    def _follow(self, configs: list[Config]) -> None:
        """Train these and show the results; test accuracies only if all finish."""
        kept, words, judged = str(runs_file() or ""), "", []
        for config in configs:
            record = kept if config.num_val else ""
            how, what = WORKER.train(config, record, self._count)
            words = what if how == "failed" else words
            if how != "failed" and config.num_val:
                self._keep(what)
            elif how == "done":
                judged.append(what | {"revealed": len(self.tries)})
        if len(judged) == len(configs):
            self.revealed = judged
            for run in judged:
                record_run(run)
        self._ready(dataclasses.replace(config, seed=0, num_val=NUM_VAL), words)

    def _count(self) -> None:
        self.progress.value += 1

    # Tries

    def _keep(self, run: dict) -> None:
        """Add a run to the tries, unless it differs in more than controls and seed."""
        given = {name: run.get(name, default) for name, default in FIELDS.items()}
        try:
            config = Config(**given | {"widths": tuple(given["widths"])})
        except (TypeError, ValueError):
            return  # trained with a function instead of a policy
        if run.get("data") != "sample" or "weight" in run or not run.get("test_acc"):
            return
        if "revealed" in run:
            self.revealed.append(run)
        names = ("policy", "mixup_alpha", "cutmix_alpha", "seed")
        same = {name: getattr(self._base, name) for name in names}
        if dataclasses.replace(config, **same) == self._base:
            seeds = self.tries.setdefault(dataclasses.replace(config, seed=0), {})
            if len(run["test_acc"]) >= len(seeds.get(config.seed, run)["test_acc"]):
                seeds[config.seed] = run

    def _done(self, config: Config) -> dict[int, dict]:
        """The finished runs of a try, by seed."""
        seeds, epochs = self.tries.get(config, {}), self._base.epochs
        return {s: run for s, run in seeds.items() if len(run["test_acc"]) == epochs}

    def _measured(self, runs: list[dict]) -> tuple[float, float, str]:
        """The mean accuracy in percent, half of its interval, and both in words."""
        accs, epochs = final(runs), len(runs[0]["test_acc"])
        acc, half = 100 * sum(accs) / len(accs), 100 * half_width(accs, NUM_VAL)
        of = f"{len(accs)} seed{'s' * (len(accs) > 1)}"
        if epochs < self._base.epochs:
            of = f"stopped after {epochs} of {self._base.epochs} epochs"
        seconds = sum(run["seconds"] for run in runs) / len(runs)
        return acc, half, f"{acc:.1f} ± {half:.1f} %, {of}, {seconds:.0f} s"

    def _rows(self) -> Iterator[tuple]:
        """The name, accuracy, half interval, words and command of each try."""
        for i, (config, seeds) in enumerate(self.tries.items(), 1):
            runs = list((self._done(config) or seeds).values())
            alphas = {name: getattr(config, f"{name}_alpha") for name in MIXES}
            mixes = [f"{name}{alpha:g}" for name, alpha in alphas.items() if alpha]
            name = f"{i}: {'+'.join([config.policy, *mixes])}"
            yield name, *self._measured(runs), command(config, sorted(seeds))

    def _lines(self) -> Iterator[str]:
        for name, _, _, words, line in self._rows():
            yield f"{name}: {words}\n{line}"
        yield f"Tries on the same {NUM_VAL:,} held-out images: {len(self.tries)}"
        if self.revealed:
            run = self.revealed[0]
            yield (
                f"Test images, revealed for {run['policy']}, one of {run['revealed']}: "
                f"{self._measured(self.revealed)[2]}. Do not choose by them again"
            )

    # What is shown

    def _ready(self, config: Config | None = None, words: str = "") -> None:
        """Show the tries with `config` chosen, and words; then wait for a click."""
        rows = list(self._rows())
        self.choice.options = [(name, i) for i, (name, *_) in enumerate(rows)]
        if rows:
            chosen = [*self.tries]
            last = chosen[-1]
            self.choice.index = chosen.index(config if config in chosen else last)
        self._words, self._chart = html.escape(words), _chart(rows)
        self._redraw()
        usable = (True, False, bool(rows), bool(rows) and not self.revealed)
        for button, on in zip(self.buttons.values(), usable, strict=True):
            button.disabled = not on

    def _redraw(self, _=None) -> None:
        for switch, *strengths in self.controls.values():
            for strength in strengths:
                strength.disabled = not switch.value
        seen = sheet.contact_sheet(self._images(), 10, 64)
        image = Image.new(
            "RGB", (seen.width, seen.height + self._chart.height), "white"
        )
        image.paste(seen)
        image.paste(self._chart, (0, seen.height))
        self._jpeg = sheet.jpeg(image)
        self._output.value = (
            f'<p role="alert" style="color: {sheet.FRAME}">{self._words}</p>'
            f'<img class="d2lext-bench" style="max-width: 100%" alt="What the net sees '
            f'with {self.config.policy}, and a chart of the tries" '
            f'src="data:image/jpeg;base64,{self._jpeg}">'
            '<pre style="white-space: pre-wrap">'
            + html.escape("\n".join(self._lines()))
            + "</pre>"
        )

    def _images(self) -> list[Image.Image]:
        """Training images as the net sees them; half each with two ways of mixing."""
        config = self.config
        ways = {mix: getattr(config, f"{name}_alpha") for name, mix in MIXES.items()}
        ways = {mix: alpha for mix, alpha in ways.items() if alpha}
        with seeded(0):
            X = augmentations(config.policy)(self._X[:20].permute(0, 3, 1, 2))
            parts = batch.to_float(X).chunk(len(ways) or 1)
            for (mix, alpha), part in zip(ways.items(), parts, strict=False):
                mixed = mix(part, self._y[: len(part)], alpha, per_example=True)[0]
                part.copy_(mixed)
        return [expect.image(img) for part in parts for img in part]

    def _repr_mimebundle_(self, **kwargs) -> dict[str, object]:
        # The JPEG is what a page without a kernel shows.
        view = {"version_major": 2, "version_minor": 0, "model_id": self.model_id}
        return {
            "application/vnd.jupyter.widget-view+json": view,
            "image/jpeg": self._jpeg,
            "text/plain": "\n".join(self._lines()),
        }


def _chart(rows: list[tuple]) -> Image.Image:
    """A chart of each try's held-out accuracy and interval; hollow if stopped."""
    figure = Figure((7.06, 0.8 + 0.4 * len(rows)), 100, layout="constrained")
    ax = figure.subplots()
    for i, (_, acc, half, words, _) in enumerate(rows):
        fill = "white" if "stopped" in words else "C0"
        ax.errorbar(acc, i, xerr=half, fmt="oC0", markerfacecolor=fill, capsize=3)
    ax.set_yticks(range(len(rows)), [f"{name}\n{words}" for name, *_, words, _ in rows])
    ax.set(xlabel="held-out accuracy, %", ylim=(max(1, len(rows)) - 0.5, -0.5))
    ax.tick_params("y", labelsize=8)
    figure.savefig(buffer := io.BytesIO())
    return Image.open(buffer).convert("RGB")
