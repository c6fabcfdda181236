"""Sliders over a picture: move a parameter of a transform and see what it does."""

import base64
import contextlib
import functools
import html
import importlib
import inspect
import io
import math
import random
from collections.abc import Callable, Iterator
from pathlib import Path

import ipywidgets as widgets
import numpy as np
import torch
from PIL import Image, ImageDraw, ImageOps, UnidentifiedImageError

from d2lext import expect

GAP = 6
FRAME = "#d55e00"
SLIDER_STEPS = 20
MAX_SEED = 10**9


def explore(
    draw: Callable,
    img: object = None,
    *,
    num_rows: int = 2,
    num_cols: int = 4,
    tile: int = 160,
    seed: int = 0,
    **controls: object,
) -> "Explorer":
    """Show what the parameters of `draw` do, with one control for each.

    Short form, with a picture: `draw` is a transform's constructor, or any function
    that takes the controls' values and returns an augmentation. The first picture
    shown is `img` itself, framed; the others are `num_rows * num_cols - 1` draws.
    General form, without `img`: `draw` takes the controls' values and returns the
    picture to show, or a list of pictures.

    A control is `(low, high)` or `(low, high, start)` for a slider (a pair as start
    gives it two handles; without a start it is the parameter's default, else the
    middle), `True` or `False` for a switch, a list for a menu, or a widget that has a
    value. A slider counts in whole numbers if its numbers are whole and its ends more
    than one apart; write 0.0 for fractions. Fix other parameters with
    `functools.partial`.

    `img` is an image as `expect.image` takes it, or a path; it is shrunk until its
    longer side is `tile` pixels, and transforms that count in pixels count in these.
    The random generators of torch, numpy and Python are left as they were.

    Raises TypeError or ValueError, naming the argument, for one that is not as above,
    and whatever `draw` raises with its starting values. What it raises later is shown
    above the picture, and the next move of a control works again.
    """
    return Explorer(draw, img, controls, num_rows, num_cols, tile, seed)


class Explorer(widgets.VBox):
    """What `explore` returns: the controls, the buttons, and the contact sheet.

    `controls` maps each parameter to its widget, `values` to its value now; `seed` is
    the widget of the seed; `code` is the line that makes the current setting; `sheet`
    is the picture shown, a PIL image.
    """

    def __init__(self, draw, img, controls, num_rows, num_cols, tile, seed):
        for name in ("num_rows", "num_cols", "tile"):
            expect.integer(name, locals()[name])
        expect.integer("seed", seed, 0, MAX_SEED)
        self._draw, self._cols, self._count = draw, num_cols, num_rows * num_cols
        self._tile, self._start_seed, self._quiet = tile, seed, False
        self._img = None if img is None else self._shrunk(img)
        defaults = _defaults(draw, controls)
        label = f"{max(map(len, [*controls, 'seed'])) + 2}ch"
        self.controls = {
            name: _control(name, spec, defaults.get(name), label)
            for name, spec in controls.items()
        }
        self._start = {name: c.value for name, c in self.controls.items()}
        self.seed = widgets.BoundedIntText(
            value=seed,
            max=MAX_SEED,
            description="seed",
            tooltip="The same seed gives the same draws",
            style={"description_width": label},
            layout={"width": "200px"},
        )
        self.sheet, self._output = None, widgets.HTML()
        self._redraw()
        for control in (*self.controls.values(), self.seed):
            control.observe(self._redraw, "value")
        super().__init__([*self.controls.values(), self._buttons(), self._output])

    def _buttons(self) -> widgets.HBox:
        reroll = widgets.Button(
            description="Reroll", icon="random", tooltip="New draws: the next seed"
        )
        reset = widgets.Button(
            description="Reset", icon="undo", tooltip="Back to the starting values"
        )
        reroll.on_click(lambda _: setattr(self.seed, "value", self.seed.value + 1))
        reset.on_click(lambda _: self.reset())
        buttons = [self.seed, reroll, reset]
        if self._img is not None:
            self.upload = widgets.FileUpload(
                accept="image/*",
                description="Your picture",
                tooltip="Look at a picture of your own",
            )
            self.upload.observe(self._uploaded, "value")
            buttons.append(self.upload)
        return widgets.HBox(buttons, layout={"flex_flow": "row wrap"})

    @property
    def values(self) -> dict[str, object]:
        """The controls' values now, by parameter, rid of binary rounding."""
        return {name: _rounded(c.value) for name, c in self.controls.items()}

    @property
    def code(self) -> str:
        """The line of code that makes the current setting."""
        return _call(self._draw, self.values)

    def reset(self) -> None:
        """Put every control and the seed back to where they started."""
        self._quiet = True  # one redraw, not one for each control
        for name, control in self.controls.items():
            control.value = self._start[name]
        self.seed.value = self._start_seed
        self._quiet = False
        self._redraw()

    def _shrunk(self, img: object) -> Image.Image:
        img = _opened(img).convert("RGB")
        img.thumbnail((self._tile, self._tile))
        return img

    def _uploaded(self, change) -> None:
        if change["new"]:
            with self._errors_shown():
                self._img = self._shrunk(bytes(change["new"][0]["content"]))
            self._redraw()

    def _pictures(self) -> list[Image.Image]:
        with seeded(self.seed.value):
            made = self._draw(**self.values)
            if self._img is None:
                made = made if isinstance(made, list | tuple) else [made]
                return [expect.image(m, "what draw returned") for m in made]
            if not callable(made):
                raise TypeError(
                    f"draw: beside a picture, {_name(self._draw)} must return an "
                    f"augmentation (something to call), not {type(made).__name__}"
                )
            # A copy each, so that an augmentation that writes into its input
            # does not change the original.
            copies = [made(self._img.copy()) for _ in range(self._count - 1)]
        return [
            self._img,
            *(expect.image(c, "what the augmentation returned") for c in copies),
        ]

    def _redraw(self, _=None) -> None:
        if self._quiet:
            return
        with self._errors_shown():
            self.sheet = contact_sheet(
                self._pictures(), self._cols, self._tile, frame=self._img is not None
            )
            self._jpeg = _jpeg(self.sheet)
            self._output.value = self._html()

    @contextlib.contextmanager
    def _errors_shown(self) -> Iterator[None]:
        """Show an error above the last picture, and raise it for the kernel's log."""
        try:
            yield
        except Exception as error:
            if self.sheet is not None:
                words = html.escape(f"{type(error).__name__}: {error}")
                self._output.value = (
                    f'<p role="alert" style="color: {FRAME}">{words}</p>' + self._html()
                )
            raise

    def _html(self) -> str:
        code = html.escape(self.code)
        first = "The original, framed, and pictures" if self._img else "Pictures"
        return (
            f'<img class="d2lext-sheet" style="max-width: 100%; height: auto" '
            f'alt="{first} by {code}, seed {self.seed.value}" '
            f'width="{self.sheet.width}" height="{self.sheet.height}" '
            f'src="data:image/jpeg;base64,{self._jpeg}">'
            '<pre class="d2lext-code" title="A click selects the line" '
            f'style="user-select: all; white-space: pre-wrap">{code}</pre>'
        )

    def _repr_mimebundle_(self, **kwargs) -> dict[str, object]:
        # The JPEG is what a page without a kernel shows.
        return {
            **super()._repr_mimebundle_(**kwargs),
            "image/jpeg": self._jpeg,
            "text/plain": f"{self.code}  # seed {self.seed.value}",
        }


@contextlib.contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Seed torch's (CPU), numpy's and Python's generators, and put them back after."""
    numpy_state, python_state = np.random.get_state(), random.getstate()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        np.random.seed(seed)
        random.seed(seed)
        try:
            yield
        finally:
            np.random.set_state(numpy_state)
            random.setstate(python_state)


def contact_sheet(
    pictures: list[Image.Image], num_cols: int, tile: int, *, frame: bool = False
) -> Image.Image:
    """Paste pictures into a grid of `num_cols` columns, none larger than `tile`.

    A picture of less than half the tile is enlarged, its pixels kept square.
    """
    if not pictures:
        raise ValueError("pictures: expected at least one")
    fitted = [_fitted(p.convert("RGB"), tile) for p in pictures]
    width = max(p.width for p in fitted) + GAP
    height = max(p.height for p in fitted) + GAP
    num_cols = min(num_cols, len(fitted))
    rows = math.ceil(len(fitted) / num_cols)
    sheet = Image.new("RGB", (num_cols * width + GAP, rows * height + GAP), "white")
    for i, p in enumerate(fitted):
        x, y = GAP + i % num_cols * width, GAP + i // num_cols * height
        x += (width - GAP - p.width) // 2
        y += (height - GAP - p.height) // 2
        if frame and i == 0:
            box = (x - GAP // 2, y - GAP // 2)
            box += (x + p.width + GAP // 2 - 1, y + p.height + GAP // 2 - 1)
            ImageDraw.Draw(sheet).rectangle(box, fill=FRAME)
        sheet.paste(p, (x, y))
    return sheet


def _fitted(img: Image.Image, tile: int) -> Image.Image:
    scale = tile / max(img.size)
    if scale < 1:
        size = [max(1, round(n * scale)) for n in img.size]
        return img.resize(size, Image.Resampling.BILINEAR)
    return img.resize([n * int(scale) for n in img.size], Image.Resampling.NEAREST)


def _jpeg(img: Image.Image) -> str:
    buffer = io.BytesIO()
    img.save(buffer, "JPEG", quality=85)
    return base64.b64encode(buffer.getvalue()).decode()


def _opened(img: object) -> Image.Image:
    """A picture, a path, or the bytes of a picture file as a PIL image."""
    if not isinstance(img, str | Path | bytes):
        return expect.image(img)
    try:
        file = io.BytesIO(img) if isinstance(img, bytes) else img
        return ImageOps.exif_transpose(Image.open(file))
    except (FileNotFoundError, IsADirectoryError):
        raise FileNotFoundError(f"img: there is no file {str(img)!r}") from None
    except UnidentifiedImageError:
        what = "this file" if isinstance(img, bytes) else repr(str(img))
        raise ValueError(
            f"img: {what} is not a picture that can be opened; try a PNG or a JPEG"
        ) from None


def _defaults(draw: Callable, controls: dict[str, object]) -> dict[str, object]:
    """The defaults of draw's parameters; TypeError for a control that is not one."""
    if not callable(draw):
        raise TypeError(
            "draw: expected a function or a transform's constructor, such as "
            f"RandomHorizontalFlip, got {type(draw).__name__}"
        )
    if isinstance(draw, torch.nn.Module):
        name = type(draw).__name__
        raise TypeError(
            f"draw: expected the class {name}, not one that is made already; "
            "the controls give it its parameters"
        )
    parameters = inspect.signature(draw).parameters
    if not any(p.kind == p.VAR_KEYWORD for p in parameters.values()):
        for name in controls.keys() - parameters.keys():
            raise TypeError(
                f"{name}: {_name(draw)} has no such parameter; "
                f"it has {', '.join(parameters) or 'none'}"
            )
    return {n: p.default for n, p in parameters.items() if p.default is not p.empty}


def _control(name: str, spec: object, default: object, label: str) -> widgets.Widget:
    look = {
        "description": name,
        "tooltip": name,
        "style": {"description_width": label},
        "layout": {"width": "min(100%, 560px)"},
    }
    if isinstance(spec, widgets.ValueWidget):
        return spec
    if isinstance(spec, bool):
        return widgets.Checkbox(value=spec, **look)
    if isinstance(spec, list) and spec:
        return widgets.Dropdown(options=[(str(v), v) for v in spec], **look)
    if isinstance(spec, tuple) and len(spec) in (2, 3):
        return _slider(name, spec, default, look)
    raise TypeError(
        f"{name}: expected (low, high), (low, high, start), True, False, a list of "
        f"choices or a widget that has a value, got {spec!r}"
    )


def _slider(name: str, spec: tuple, default: object, look: dict) -> widgets.Widget:
    low, high = spec[:2]
    if not _is_number(low) or not _is_number(high) or not low < high:
        raise ValueError(f"{name}: expected numbers low < high, got {spec!r}")
    if len(spec) == 3:
        start = spec[2]
    elif _is_number(default) or _is_pair(default):
        start = default
    else:
        whole = isinstance(low, int) and isinstance(high, int) and high - low > 1
        start = (low + high) // 2 if whole else (low + high) / 2
    ends = start if _is_pair(start) else (start,)
    if not all(_is_number(n) and low <= n <= high for n in ends) or ends[0] > ends[-1]:
        raise ValueError(
            f"{name}: the start {start!r} is not a number, or two rising ones, within "
            f"{low} and {high}; give one as (low, high, start)"
        )
    whole = high - low > 1 and all(isinstance(n, int) for n in (low, high, *ends))
    kind = f"{'Int' if whole else 'Float'}{'Range' if len(ends) == 2 else ''}Slider"
    step = 1 if whole else _step(low, high, ends)
    if not whole:
        shown = (step, low, *ends)
        digits = next((d for d in range(3) if all(round(n, d) == n for n in shown)), 3)
        look = {**look, "readout_format": f".{digits}f"}
    return getattr(widgets, kind)(value=start, min=low, max=high, step=step, **look)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and math.isfinite(value)


def _is_pair(value: object) -> bool:
    return isinstance(value, tuple | list) and len(value) == 2


def _step(low: float, high: float, ends: tuple) -> float:
    """A round step, about a twentieth of the range, that leads from low to the others.

    The browser knows only values that are whole steps above low.
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


def _name(function: Callable) -> str:
    """A function's shortest importable path; its bare name if a lesson defines it."""
    if isinstance(function, functools.partial):
        return _name(function.func)
    name = getattr(function, "__qualname__", type(function).__qualname__)
    module = function.__module__
    if module == "__main__":
        return name
    parts = module.split(".")
    for end in range(1, len(parts)):
        path = ".".join(parts[:end])
        if getattr(importlib.import_module(path), name, None) is function:
            return f"{path}.{name}"
    return f"{module}.{name}"


def _call(function: Callable, values: dict[str, object]) -> str:
    args: tuple = ()
    if isinstance(function, functools.partial):
        args, values = function.args, {**function.keywords, **values}
        function = function.func
    words = [*map(repr, args), *(f"{name}={value!r}" for name, value in values.items())]
    return f"{_name(function)}({', '.join(words)})"
