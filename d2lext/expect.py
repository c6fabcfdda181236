"""Every argument check of this package: one line to call, one clear error to read.

A check takes the argument's name and value and returns the value, ready for use. If the
value does not fit, it raises TypeError or ValueError: the name, what was expected, what
came instead and, where there is one, the way out.
"""

import inspect
import math
from collections.abc import Callable, Sequence
from numbers import Integral, Real

import numpy as np
import torch
from PIL import Image
from torch import nn
from torch.utils.data import get_worker_info

CHANNELS = (1, 3, 4)
INTEGERS = (torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64)

# Numbers


def integer(name: str, value: object, low: int = 1, high: float = math.inf) -> int:
    """An integer (no bool) from low to high."""
    whole = isinstance(value, Integral) and not isinstance(value, bool)
    if not whole or not low <= value <= high:
        bounds = f">= {low}" if high == math.inf else f"from {low} to {high}"
        raise ValueError(f"{name}: expected an integer {bounds}, got {value!r}")
    return int(value)


def integers(name: str, value: object, lengths: Sequence[int], low: int = 1) -> tuple:
    """A tuple of integers >= low, of one of these lengths; one alone stands for two."""
    values = (value, value) if isinstance(value, Integral) else value
    fits = isinstance(values, Sequence) and len(values) in lengths
    if not fits or not all(isinstance(v, Integral) and v >= low for v in values):
        counts = " or ".join(map(str, lengths))
        raise ValueError(
            f"{name}: expected an integer >= {low}, or {counts} of them, got {value!r}"
        )
    return tuple(map(int, values))


def number(name: str, value: object, low: float = 0, high: float = math.inf) -> float:
    """A finite number from low to high."""
    real = isinstance(value, Real) and not isinstance(value, bool)
    if not real or not (math.isfinite(value) and low <= value <= high):
        bounds = f">= {low:g}" if high == math.inf else f"from {low:g} to {high:g}"
        raise ValueError(f"{name}: expected a finite number {bounds}, got {value!r}")
    return value


def numbers(name: str, value: object, count: int = 3, positive: bool = False) -> tuple:
    """A tuple of `count` finite numbers; > 0 if `positive`."""
    fits = isinstance(value, Sequence) and not isinstance(value, str)
    fits = fits and len(value) == count and all(isinstance(v, Real) for v in value)
    if not fits or not all(map(math.isfinite, value)) or (positive and min(value) <= 0):
        more = " > 0" if positive else ""
        raise ValueError(f"{name}: expected {count} numbers{more}, got {value!r}")
    return tuple(value)


def probability(name: str, value: object) -> float:
    """A number from 0 to 1."""
    if not isinstance(value, Real) or not 0 <= value <= 1:
        raise ValueError(f"{name}: expected a probability from 0 to 1, got {value!r}")
    return value


def interval(name: str, value: object, low: float, high: float) -> tuple:
    """A pair of finite numbers (min, max), low <= min <= max <= high."""
    pair = isinstance(value, Sequence) and not isinstance(value, str)
    pair = pair and len(value) == 2 and all(isinstance(v, Real) for v in value)
    pair = pair and all(map(math.isfinite, value))
    if not pair or not low <= value[0] <= value[1] <= high:
        raise ValueError(
            f"{name}: expected two numbers (min, max) from {low:g} to {high:g}, "
            f"got {value!r}"
        )
    return tuple(value)


def choice(name: str, value: object, options: Sequence) -> object:
    """One of the options."""
    if value not in options:
        words = [str(option) for option in options]
        listed = f"{', '.join(words[:-1])} or {words[-1]}"
        raise ValueError(f"{name}: expected {listed}, got {value!r}")
    return value


# Functions


def function(name: str, value: object, like: str) -> Callable:
    """Something to call that is not a class, such as `like`."""
    if isinstance(value, type):
        raise TypeError(
            f"{name}: {value.__name__} is a class; make one first, "
            f"{value.__name__}(...)"
        )
    if not callable(value):
        raise TypeError(
            f"{name}: expected something to call, such as {like}, "
            f"got {type(value).__name__}"
        )
    return value


def criterion(value: object, pred: torch.Tensor, y: torch.Tensor) -> Callable:
    """A loss that can be called with (pred, y)."""
    called = function("criterion", value, "nn.CrossEntropyLoss()")
    try:
        inspect.signature(
            called.forward if isinstance(called, nn.Module) else called
        ).bind(pred, y)
    except TypeError as error:
        raise TypeError(
            f"criterion: is called with two arguments, (pred, y), and here: {error}; "
            "wrap it, lambda pred, y: ..."
        ) from None
    except ValueError:
        pass  # a function in C does not tell
    return called


def generator(value: object, name: str = "generator") -> torch.Generator | None:
    """A torch.Generator of the CPU, where all draws are made, or None."""
    if not isinstance(value, torch.Generator | None):
        raise TypeError(
            f"{name}: expected a torch.Generator, got {type(value).__name__}"
        )
    if value is not None and value.device.type != "cpu":
        raise ValueError(
            f"{name}: draws are made on the CPU, with one seed the same everywhere; "
            f"expected torch.Generator(), got one of {value.device}"
        )
    return value


# Images


def image(img: object, name: str = "img") -> Image.Image:
    """A PIL image, from one, or from a tensor or array that is an image.

    Such an array has shape (H, W), (C, H, W) or (H, W, C) with 1, 3 or 4 channels, and
    integers from 0 to 255 or floats from 0 to 1. Floats slightly out of range are
    clipped; above 2, an error.
    """
    if isinstance(img, Image.Image):
        return img
    X = img
    if isinstance(img, torch.Tensor):
        X = img.detach().cpu()
        X = (X.float() if X.is_floating_point() else X).numpy()
    if not isinstance(X, np.ndarray) or X.dtype.kind not in "iuf":
        of = f" of {img.dtype}" if hasattr(img, "dtype") else ""
        raise TypeError(
            f"{name}: expected an image (a PIL image, or a tensor or array of "
            f"numbers), got {type(img).__name__}{of}"
        )
    if X.ndim == 3 and X.shape[-1] not in CHANNELS and X.shape[0] in CHANNELS:
        X = X.transpose(1, 2, 0)  # (C, H, W) -> (H, W, C)
    fits = X.ndim == 2 or (X.ndim == 3 and X.shape[2] in CHANNELS)
    if not fits or X.size == 0:
        raise ValueError(
            f"{name}: expected an image of shape (H, W), (C, H, W) or (H, W, C) with "
            f"1, 3 or 4 channels, got {X.shape}"
        )
    X = _bytes(X, name)
    return Image.fromarray(X[..., 0] if X.shape[2:] == (1,) else X)


def _bytes(X: np.ndarray, name: str) -> np.ndarray:
    if X.dtype.kind == "f":
        if np.nan_to_num(X).max() > 2:
            raise ValueError(
                f"{name}: expected floats from 0 to 1, got up to {X.max():.0f}; "
                "divide by 255?"
            )
        X = (np.nan_to_num(X).clip(0, 1) * 255).round()
    elif X.min() < 0 or X.max() > 255:
        raise ValueError(
            f"{name}: expected integers from 0 to 255, got {X.min()} to {X.max()}"
        )
    return X.astype(np.uint8)


# Batches and labels


def _kind(value: object) -> str:
    if isinstance(value, torch.Tensor):
        return f"{value.dtype} of shape {tuple(value.shape)}"
    return type(value).__name__


def batch(X: object, channels: Sequence[int] = (1, 2, 3, 4)) -> torch.Tensor:
    """A batch (n, c, h, w) of uint8 or floats, with so many channels."""
    fits = isinstance(X, torch.Tensor)
    if not fits or not (X.dtype == torch.uint8 or X.is_floating_point()):
        got = X.dtype if fits else type(X).__name__
        raise TypeError(
            "X: expected a batch, a tensor of uint8 or of floats from 0 to 1, "
            f"got {got}"
        )
    if X.ndim != 4 or X.shape[1] not in channels or 0 in X.shape:
        listed = " or ".join(map(str, channels))
        raise ValueError(
            f"X: expected a batch of shape (n, {listed} channels, height, width), "
            f"got {tuple(X.shape)}"
        )
    return X


def colors(X: torch.Tensor) -> torch.Tensor:
    """A batch whose floats lie between 0 and 1."""
    low, high = (0, 1) if X.dtype == torch.uint8 else map(float, X.aminmax())
    if low < -1e-3 or high > 1 + 1e-3:
        raise ValueError(
            f"X: expected floats from 0 to 1, got {low:g} to {high:g}; divide "
            "images of 0 to 255 by 255, and normalize last"
        )
    return X


def images(name: str, X: object) -> torch.Tensor:
    """Images of a data set as a tensor: uint8 (n, h, w, c), from (n, h, w) as well."""
    X = torch.as_tensor(X)
    fits = X.dtype == torch.uint8 and X.ndim in (3, 4) and 0 not in X.shape
    if not fits or (X.ndim == 4 and X.shape[3] > 4):
        raise ValueError(
            f"{name}: expected uint8 images of shape (n, height, width, channels), "
            f"got {X.dtype} of shape {tuple(X.shape)}"
        )
    return X if X.ndim == 4 else X[..., None]


def labels(name: str, y: object, n: int) -> torch.Tensor:
    """Labels of n images as a tensor: class indices (n,) as int64, or (n, k)."""
    y = torch.as_tensor(y)
    if y.shape[:1] != (n,) or y.ndim > 2 or (y.ndim == 1 and y.dtype not in INTEGERS):
        raise ValueError(
            f"{name}: expected {n} labels, one for each image: class indices, or "
            f"numbers of shape ({n}, classes); got {_kind(y)}"
        )
    if y.ndim == 1:
        return y.long()
    return y.float() if y.is_floating_point() else y


def device(name: str, value: object) -> torch.device:
    """A device of this machine; None is the CPU."""
    try:
        return torch.empty(0, device="cpu" if value is None else value).device
    except (RuntimeError, AssertionError, TypeError) as error:
        raise ValueError(
            f"{name}: expected a device of this machine, such as 'cpu', got {value!r} "
            f"({str(error).splitlines()[0]})"
        ) from None


def transforms(value: object, base: type) -> Sequence:
    """A list of whole-batch transforms, instances of `base`, without generators."""
    if not isinstance(value, Sequence):
        raise TypeError(
            f"transforms: expected a list of transforms, got {type(value).__name__}"
        )
    for i, t in enumerate(value):
        if not isinstance(t, base):
            raise TypeError(
                f"transforms[{i}]: expected a transform of d2lext.batch, got "
                f"{type(t).__name__} of {type(t).__module__}; leave out ToTensor (the "
                "data set divides by 255), and wrap others, PerImage(...)"
            )
        if t.generator is not None:
            raise ValueError(
                f"transforms[{i}]: has a generator of its own; give it to the outer "
                "Compose, which draws for all"
            )
    return value


def colors_first(transforms: Sequence) -> Sequence:
    """Whole-batch transforms, those that need colours before any that normalizes."""
    for i, t in enumerate(transforms):
        if t.colors and any(s.normalizes for s in transforms[:i]):
            raise ValueError(
                f"transforms[{i}]: {type(t).__name__} needs colours from 0 to 1; put "
                "Normalize behind it"
            )
    return transforms


def no_worker(generator: torch.Generator | None) -> torch.Generator | None:
    """A generator in this process; of workers, every one would repeat its draws."""
    if generator is not None and get_worker_info() is not None:
        raise RuntimeError(
            "generator: every worker would repeat its draws; expected num_workers=0, "
            "which is faster here anyway"
        )
    return generator


def floats(name: str, x: object) -> torch.Tensor:
    """A tensor of floats."""
    if not isinstance(x, torch.Tensor) or not x.is_floating_point():
        got = x.dtype if isinstance(x, torch.Tensor) else type(x).__name__
        raise TypeError(
            f"{name}: expected a tensor of floats, got {got}; images of uint8 become "
            "floats from 0 to 1 by d2lext.batch.to_float"
        )
    return x


def indices(name: str, y: object, n: int) -> torch.Tensor:
    """Class indices of n examples: integers (n,)."""
    if not isinstance(y, torch.Tensor) or y.dtype not in INTEGERS or y.ndim != 1:
        raise TypeError(
            f"{name}: expected class indices, a tensor of integers of shape (n,), "
            f"got {_kind(y)}"
        )
    if len(y) != n:
        raise ValueError(f"{name}: has {len(y)} labels for {n} examples")
    return y


# Nets and their training


def initialized(net: nn.Module) -> nn.Module:
    """A net without lazy layers that have no weights yet."""
    if any(isinstance(p, nn.UninitializedParameter) for p in net.parameters()):
        raise ValueError(
            "net: has lazy layers without weights; call net(X) once, before you "
            "initialise it and before you make its trainer"
        )
    return net


def on_device(net: nn.Module, device: torch.device) -> nn.Module:
    """A net on this kind of device."""
    first = next(net.parameters(), None)
    if first is not None and first.device.type != device.type:
        raise ValueError(
            f"net: is on {first.device}, but the data go to {device}; move it first, "
            f'net.to("{device}")'
        )
    return net


def trainer_of(net: nn.Module, trainer: torch.optim.Optimizer) -> torch.optim.Optimizer:
    """An optimizer that holds some of net's weights."""
    of_net = {id(p) for p in net.parameters()}
    if not any(id(p) in of_net for g in trainer.param_groups for p in g["params"]):
        raise ValueError(
            "trainer: holds none of net's weights, so it would train another net; "
            "make it again, from net.parameters()"
        )
    return trainer


def not_empty(name: str, data_iter: object) -> object:
    """Something with a length > 0, such as a DataLoader or a list of batches."""
    if not hasattr(data_iter, "__len__"):
        raise TypeError(
            f"{name}: expected batches with a length, such as a DataLoader or a list, "
            f"got {type(data_iter).__name__}"
        )
    if len(data_iter) == 0:
        raise ValueError(f"{name}: has no batches")
    return data_iter
