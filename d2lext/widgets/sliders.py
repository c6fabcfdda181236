"""Sliders over an image: move a parameter of a transform and see what it does."""

import contextlib
import html
import inspect
import json
import math
import random
from collections.abc import Callable, Iterator

import ipywidgets as widgets
import numpy as np
import torch
from PIL import Image
from torchvision.transforms.v2 import functional as TF

from d2lext import expect
from d2lext.augment import Transform
from d2lext.places import PACKAGE
from d2lext.widgets import codeline, sheet

SLIDER_STEPS = 20
MAX_SEED = 10**9
OPTIONS = {"num_rows": 2, "num_cols": 4, "tile": 160, "seed": 0}
_SERVER = PACKAGE / "course/lab/jupyter_server_config.json"
_SERVER = json.loads(_SERVER.read_text(encoding="utf-8"))
_BYTES = _SERVER["ServerApp"]["tornado_settings"]["websocket_max_message_size"]
FORMS = (bool, tuple, list, widgets.ValueWidget)
# ipywidgets 7, as on Colab, has another name for it.
OLD = "tooltip" not in widgets.IntSlider.class_trait_names()
TIP = "description_tooltip" if OLD else "tooltip"


def explore(draw: Callable, img: object = None, /, **controls: object) -> "Explorer":
    """Show what the parameters of `draw` do, with one control for each.

    draw: given an image, a transform's constructor, or a function that takes the
        controls' values and returns an augmentation; the sheet shows `img`, framed, and
        `num_rows * num_cols - 1` draws. Without an image, a function that takes the
        controls' values and returns the image to show, or a list of images.
    img: an image as `expect.image` takes it, or a path. Draws work on it at its own
        size, up to 512 * 512 pixels, and are then shrunk.
    controls: a parameter's `(low, high)` or `(low, high, start)` for a slider (with two
        handles if start is a pair; the default start is the parameter's default, else
        the middle), `True` or `False` for a checkbox, a list for a menu, or a widget
        that has a value. Integers at least two apart make an integer slider, unless the
        parameter's default or annotation is a float; 0.0 makes fractions. Fix other
        parameters with `functools.partial`.
    num_rows, num_cols, tile, seed: rows and columns of the sheet (2, 4), longer side of
        an image in it (160), and the first seed (0). Given as a control, such as
        `seed=(0, 9)`, each is a parameter of `draw`.

    The random generators of torch, numpy and Python keep their states. Raises TypeError
    or ValueError for an invalid argument, and whatever `draw` raises with its starting
    values. A later error appears above the images, and the controls keep working.
    """
    options = {
        name: controls.pop(name)
        for name in OPTIONS
        if name in controls and not isinstance(controls[name], FORMS)
    }
    return Explorer(draw, img, controls, **OPTIONS | options)


class Explorer(widgets.VBox):
    """The widget that `explore` returns: controls, buttons, and the contact sheet.

    `controls` maps each parameter to its widget, `values` to its current value; `seed`
    is the seed's widget; `code` is the line that makes the current setting; `sheet` is
    the PIL image shown. A page without a kernel has `jpeg`, in base64, and `text`.
    """

    _ipython_display_ = None  # ipywidgets 7 would not ask for the bundle below

    def __init__(self, draw, img, controls, num_rows, num_cols, tile, seed):
        self._cols = expect.integer("num_cols", num_cols)
        self._count = expect.integer("num_rows", num_rows) * self._cols
        self._tile = expect.integer("tile", tile)
        self._start_seed = expect.integer("seed", seed, 0, MAX_SEED)
        self._draw, self._quiet = draw, False
        self._img = self._start_img = None if img is None else sheet.opened(img)
        parameters = _parameters(draw, controls)
        self.controls = {
            name: make_control(name, spec, parameters.get(name))
            for name, spec in controls.items()
        }
        width = f"{max([8, *map(len, controls)])}ch"
        for name, control in self.controls.items():
            if control is not controls[name]:  # all sliders begin at one place
                control.style.description_width = width
        self._start = {name: c.value for name, c in self.controls.items()}
        self.seed = widgets.BoundedIntText(
            value=seed,
            max=MAX_SEED,
            description="seed",
            style={"description_width": "6ch"},
            layout={"width": "180px"},
            **{TIP: "The same seed gives the same draws"},
        )
        self.sheet, self._output = None, widgets.HTML()
        self._redraw()
        for control in (*self.controls.values(), self.seed):
            control.observe(self._redraw, "value")
        super().__init__([*self.controls.values(), self._buttons(), self._output])

    def _buttons(self) -> widgets.HBox:
        words = "Draw again, with the next seed"
        reroll = button("Reroll", self._reroll, icon="random", tooltip=words)
        words = "Restore the starting values"
        reset = button("Reset", self.reset, icon="undo", tooltip=words)
        buttons = [self.seed, reroll, reset]
        if self._img is not None:
            words = f"Upload an image: up to {_BYTES >> 20} MB, or often only 10 MB "
            words += "if neither d2lext lab nor make lab opened the lessons"
            self.upload = widgets.FileUpload(
                accept="image/*", description="Your image", **{TIP: words}
            )
            self.upload.observe(self._uploaded, "value")
            buttons.append(self.upload)
        return widgets.HBox(buttons, layout={"flex_flow": "row wrap"})

    def _reroll(self) -> None:
        self.seed.value += 1

    @property
    def values(self) -> dict[str, object]:
        """The controls' current values by parameter, without binary rounding errors."""
        return {name: _rounded(c.value) for name, c in self.controls.items()}

    @property
    def code(self) -> str:
        """The line of code that makes the current setting."""
        return codeline.call(self._draw, self.values)

    def reset(self) -> None:
        """Reset every control, the seed and the image to their starting values."""
        self._quiet = True  # one redraw, not one for each control
        for name, control in self.controls.items():
            control.value = self._start[name]
        self.seed.value, self._img = self._start_seed, self._start_img
        self._quiet = False
        self._redraw()

    def _uploaded(self, change) -> None:
        files = change["new"]  # a tuple; in ipywidgets 7 a dictionary by name
        for file in files.values() if isinstance(files, dict) else files:
            with self._errors_shown():
                self._img = sheet.opened(bytes(file["content"]))
            self._redraw()

    def _images(self) -> list[Image.Image]:
        if self._img is None:
            with seeded(self.seed.value):
                made = self._draw(**self.values)
            made = made if isinstance(made, list | tuple) else [made]
            return [expect.image(m, "what draw returned") for m in made]
        self._used = sheet.within_budget(self._img)
        try:
            draws = self._draws()
        except Exception:
            if self._used.mode == "RGB":
                raise
            self._used = sheet.plain(self._used)  # the note below the sheet says so
            draws = self._draws()
        name = "what the augmentation returned"
        return [self._img, *(expect.image(draw, name) for draw in draws)]

    def _draws(self) -> list:
        n = self._count - 1
        with seeded(self.seed.value):
            aug = self._draw(**self.values)
            if not callable(aug):
                raise TypeError(
                    f"draw: given an image, {codeline.name(self._draw)} must return "
                    f"an augmentation (a callable), not {type(aug).__name__}"
                )
            if isinstance(aug, Transform):  # it draws for each image of a batch
                expect.choice("mode", self._used.mode, ("L", "RGB", "RGBA"))
                return list(aug(TF.pil_to_tensor(self._used).repeat(n, 1, 1, 1)))
            # A copy each, so that an augmentation that writes into its input
            # does not change the original.
            return [aug(self._used.copy()) for _ in range(n)]

    def _redraw(self, _=None) -> None:
        if self._quiet:
            return
        with self._errors_shown():
            self.sheet = self._sheet()
            self.jpeg = sheet.jpeg(self.sheet)
            self._show()

    def _sheet(self) -> Image.Image:
        framed = self._img is not None
        return sheet.contact_sheet(self._images(), self._cols, self._tile, frame=framed)

    @contextlib.contextmanager
    def _errors_shown(self) -> Iterator[None]:
        """Show an error above the last images, and re-raise it for the kernel's log."""
        try:
            yield
        except Exception as error:
            if self.sheet is not None:
                words = html.escape(f"{type(error).__name__}: {error}")
                self._show(f'<p role="alert" style="color: {sheet.FRAME}">{words}</p>')
            raise

    def _show(self, alert: str = "") -> None:
        self._output.value = alert + self._html()

    def _html(self) -> str:
        code, note = html.escape(self.code), html.escape(self.note)
        look = 'class="d2lext-note" style="white-space: pre-wrap"'
        first = "The original, framed, and images" if self._img else "Images"
        return (
            f'<img class="d2lext-sheet" style="max-width: 100%; height: auto" '
            f'alt="{first} by {code}, seed {self.seed.value}" '
            f'width="{self.sheet.width}" height="{self.sheet.height}" '
            f'src="data:image/jpeg;base64,{self.jpeg}">'
            '<pre class="d2lext-code" title="Click to select the line" '
            f'style="user-select: all; white-space: pre-wrap">{code}</pre>'
            + (f"<p {look}>{note}</p>" if note else "")
        )

    @property
    def note(self) -> str:
        """What is said below the line of code."""
        if (img := self._img) is None or self._used is img:
            return ""
        used = f"{self._used.width} x {self._used.height} as {self._used.mode}"
        return f"{img.width} x {img.height} {img.mode} image, augmented at {used}"

    @property
    def text(self) -> str:
        return f"{self.code}  # seed {self.seed.value}"

    def _repr_mimebundle_(self, **kwargs) -> dict[str, object]:
        view = {"version_major": 2, "version_minor": 0, "model_id": self.model_id}
        return {
            "application/vnd.jupyter.widget-view+json": view,
            "image/jpeg": self.jpeg,
            "text/plain": self.text,
        }


@contextlib.contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Seed the generators of torch (CPU), numpy and Python, and restore them after."""
    numpy_state, python_state = np.random.get_state(), random.getstate()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        np.random.seed(seed % 2**32)
        random.seed(seed)
        try:
            yield
        finally:
            np.random.set_state(numpy_state)
            random.setstate(python_state)


def _parameters(draw: Callable, controls: dict[str, object]) -> dict:
    """The parameters of draw; raises TypeError if the controls do not fit them."""
    if isinstance(draw, torch.nn.Module) or "torchvision" in type(draw).__module__:
        name = type(draw).__name__
        raise TypeError(
            f"draw: expected the class {name}, not one of its objects; "
            f"the controls set its parameters: explore({name}, img, ...)"
        )
    if not callable(draw):
        raise TypeError(
            "draw: expected a function or a transform's constructor, such as "
            f"RandomHorizontalFlip, got {type(draw).__name__}"
        )
    parameters = inspect.signature(draw).parameters
    kinds = {p.kind for p in parameters.values()}
    for name in controls.keys() - parameters.keys():
        if inspect.Parameter.VAR_KEYWORD not in kinds:
            raise TypeError(
                f"{name}: {codeline.name(draw)} has no such parameter; "
                f"it has {', '.join(parameters) or 'none'}"
            )
    for name, p in parameters.items():
        variadic = p.kind in (p.VAR_KEYWORD, p.VAR_POSITIONAL)
        if p.default is p.empty and not variadic and name not in controls:
            if not controls and inspect.isroutine(draw):
                raise TypeError(
                    "draw: expected a function of parameters to move, such as "
                    "explore(lambda p: RandomHorizontalFlip(p), img, p=(0.0, 1.0)); it "
                    f"takes no image, but returns what does. No control sets {name}"
                )
            raise TypeError(
                f"{name}: {codeline.name(draw)} requires it; add a control, such as "
                f"{name}=(0.0, 1.0), or fix it with functools.partial"
            )
    with _naming("draw"):
        codeline.call(draw, {})
    return dict(parameters)


@contextlib.contextmanager
def _naming(argument: str) -> Iterator[None]:
    """Put the argument's name before the error of an object that has no name."""
    try:
        yield
    except TypeError as error:
        raise TypeError(f"{argument}: {error}") from None


def button(name: str, act: Callable[[], object], **look: str) -> widgets.Button:
    made = widgets.Button(description=name, **look)
    made.on_click(lambda _: act())
    return made


def make_control(name: str, spec: object, parameter: object = None) -> widgets.Widget:
    """The widget for a parameter; spec as for `explore`, parameter of its function."""
    look = {
        "description": name,
        TIP: name,
        "style": {"description_width": f"{max(len(name), 8)}ch"},
        "layout": {"width": "min(100%, 560px)"},
    }
    if isinstance(spec, widgets.ValueWidget):
        return spec
    if isinstance(spec, bool):
        return widgets.Checkbox(value=spec, **look)
    if isinstance(spec, list) and spec:
        with _naming(name):
            options = [(v if isinstance(v, str) else codeline.word(v), v) for v in spec]
        return widgets.Dropdown(options=options, value=spec[0], **look)
    if isinstance(spec, tuple) and len(spec) in (2, 3):
        return _slider(name, _python(spec), parameter, look)
    raise TypeError(
        f"{name}: expected (low, high), (low, high, start), True, False, a list of "
        f"choices or a widget that has a value, got {spec!r}; "
        f"use functools.partial to fix a value"
    )


def _slider(name: str, spec: tuple, parameter: object, look: dict) -> widgets.Widget:
    low, high, *start = spec
    default = _python(getattr(parameter, "default", None))
    if len(_ends((low, high))) < 2 or low >= high:
        raise ValueError(f"{name}: expected numbers low < high, got {spec!r}")
    typed = "float" in str(getattr(parameter, "annotation", "")) + str(type(default))
    whole = high - low > 1 and isinstance(low, int) and isinstance(high, int)
    whole = whole and not typed
    middle = (low + high) // 2 if whole else (low + high) / 2
    (start,) = start or [default if _ends(default) else middle]
    ends = _ends(start)
    if not ends or not low <= ends[0] <= ends[-1] <= high:
        raise ValueError(
            f"{name}: the start {start!r} is not a number or a rising pair from {low} "
            f"to {high}; give one as (low, high, start)"
        )
    whole = whole and all(isinstance(n, int) for n in ends)
    kind = f"{'Int' if whole else 'Float'}{'Range' if len(ends) == 2 else ''}Slider"
    step = 1 if whole else _step(low, high, ends)
    if whole:
        look = {**look, TIP: f"{name}: integers; for fractions write {low}.0"}
    else:
        shown = (step, low, *ends)
        digits = next((d for d in range(3) if all(round(n, d) == n for n in shown)), 3)
        look = {**look, "readout_format": f".{digits}f"}
    return getattr(widgets, kind)(value=start, min=low, max=high, step=step, **look)


def _ends(value: object) -> tuple[float, ...]:
    """The handles of a slider: those of a number or a pair; none for other values."""
    ends = tuple(value) if isinstance(value, tuple | list) else (value,)
    fits = all(isinstance(n, int | float) and math.isfinite(n) for n in ends)
    return ends if fits and len(ends) <= 2 else ()


def _python(value: object) -> object:
    """Convert numpy's numbers to Python's, also inside a tuple."""
    if isinstance(value, tuple):
        return tuple(map(_python, value))
    return value.item() if isinstance(value, np.generic) else value


def _step(low: float, high: float, ends: tuple) -> float:
    """A round step, about a twentieth of the range, that reaches high and all handles.

    The browser allows only values that are whole steps above low.
    """
    about = (high - low) / SLIDER_STEPS
    power = math.floor(math.log10(about) + 1e-9)
    steps = [round(m * 10.0**p, 10) for p in (power, power - 1) for m in (5, 2.5, 2, 1)]
    steps = [step for step in steps if step <= about * 1.01]
    counts = {step: [(n - low) / step for n in (*ends, high)] for step in steps}
    even = (s for s in steps if all(abs(c - round(c)) < 1e-6 for c in counts[s]))
    return next(even, steps[0])


def _rounded(value: object) -> object:
    if isinstance(value, float):
        return round(value, 10)
    return tuple(map(_rounded, value)) if isinstance(value, tuple) else value
