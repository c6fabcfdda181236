"""Every argument check of this package: one line to call, one clear error to read.

A check takes the argument's name and value and returns the value, ready for use. If the
value does not fit, it raises TypeError or ValueError with the name, what was expected,
what came instead and, if there is one, the remedy.
"""

import json
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


def _need(fits: bool, name: str, wanted: str, got: object, error=ValueError) -> None:
    if not fits:
        raise error(f"{name}: expected {wanted}, got {got}")


def _kind(value: object) -> str:
    if isinstance(value, torch.Tensor):
        return f"{value.dtype} of shape {tuple(value.shape)}"
    return type(value).__name__


def _listed(value: object) -> list:
    """What a sequence, a flat tensor or a flat array holds; else nothing."""
    if hasattr(value, "tolist") and getattr(value, "ndim", 0) == 1:
        return value.tolist()
    sequence = isinstance(value, Sequence) and not isinstance(value, str)
    return list(value) if sequence else []


def _whole(value: object) -> bool:
    return isinstance(value, Integral) and not isinstance(value, bool)


def _finite(value: object) -> bool:
    real = isinstance(value, Real) and not isinstance(value, bool)
    return real and math.isfinite(value)


def _bounds(low: float, high: float) -> str:
    return f">= {low:g}" if high == math.inf else f"from {low:g} to {high:g}"


# Numbers


def integer(name: str, value: object, low: int = 1, high: float = math.inf) -> int:
    """An integer (no bool) from low to high."""
    fits = _whole(value) and low <= value <= high
    _need(fits, name, f"an integer {_bounds(low, high)}", repr(value))
    return int(value)


def integers(
    name: str, value: object, lengths: Sequence[int], low: float = 1
) -> tuple[int, ...]:
    """A tuple of integers >= low, of one of these lengths; one alone stands for two."""
    values = [value] if _whole(value) else _listed(value)
    values = values * 2 if len(values) == 1 else values
    fits = len(values) in lengths and all(_whole(v) and v >= low for v in values)
    limit = f" {_bounds(low, math.inf)}" if low > -math.inf else ""
    counts = " or ".join(map(str, lengths))
    _need(fits, name, f"an integer{limit}, or {counts} of them", repr(value))
    return tuple(map(int, values))


def number(name: str, value: object, low: float = 0, high: float = math.inf) -> float:
    """A finite number from low to high."""
    fits = _finite(value) and low <= value <= high
    _need(fits, name, f"a finite number {_bounds(low, high)}", repr(value))
    return value


def numbers(
    name: str, value: object, counts: Sequence[int] = (3,), positive: bool = False
) -> tuple[float, ...]:
    """Finite numbers, as many as `counts` allows, > 0 if `positive`; also a tensor."""
    values = [value] if _finite(value) else _listed(value)
    fits = len(values) in counts and all(map(_finite, values))
    fits = fits and (min(values) > 0 or not positive)
    wanted = " or ".join(map(str, counts)) + " finite numbers" + " > 0" * positive
    _need(fits, name, wanted, repr(value))
    return tuple(values)


def chances(name: str, value: object, count: int) -> tuple[float, ...]:
    """As many numbers >= 0 as `count`, and not only zeros."""
    values = numbers(name, value, (count,))
    fits = min(values) >= 0 < max(values)
    _need(fits, name, "numbers >= 0, and one above 0", repr(value))
    return values


def fill(name: str, value: object) -> tuple[float, ...]:
    """A colour to fill with: a number, or one for each channel."""
    text = isinstance(value, str)
    _need(not text, name, "numbers (PerImage may take words)", repr(value), TypeError)
    return numbers(name, value, (1, 2, 3, 4))


def logits(name: str, pred: torch.Tensor) -> torch.Tensor:
    """Finite scores (n, classes) before softmax, and not probabilities."""
    sums = pred.detach().double().sum(1)
    _need(sums.isfinite().all(), name, "finite logits", "NaN or infinity")
    scores = len(pred) == 0 or pred.min() < 0 or (sums - 1).abs().max() > 1e-2
    _need(scores, name, "logits, the net's output before softmax", "probabilities")
    return pred


def per_channel(name: str, values: Sequence[float], X: torch.Tensor) -> Sequence[float]:
    """Numbers for the channels of a batch: as many as it has, or one for all."""
    channels = X.shape[1]
    fits = len(values) in (1, channels)
    _need(fits, name, f"1 or {channels} numbers for X with {channels} channels", values)
    return values


def interval(name: str, value: object, low: float, high: float) -> tuple[float, float]:
    """A pair of finite numbers (min, max), low <= min <= max <= high."""
    pair = _listed(value)
    fits = len(pair) == 2 and all(map(_finite, pair)) and low <= pair[0]
    fits = fits and pair[0] <= pair[1] <= high
    _need(fits, name, f"two numbers (min, max) {_bounds(low, high)}", repr(value))
    return tuple(pair)


def choice(name: str, value: object, options: Sequence) -> object:
    """One of the options."""
    words = [str(option) for option in options]
    wanted = f"{', '.join(words[:-1])} or {words[-1]}"
    _need(value in options, name, wanted, repr(value))
    return value


def at_least(name: str, values: Sequence, count: int) -> Sequence:
    """A sequence of `count` values or more."""
    _need(len(values) >= count, name, count, len(values))
    return values


def interpolation(name: str, value: object) -> str:
    """An interpolation of tensors by name, or as torchvision's InterpolationMode."""
    options = ("nearest", "nearest-exact", "bilinear", "bicubic")
    return choice(name, getattr(value, "value", value), options)


def spare(name: str, size: Sequence[int], sides: Sequence[int]) -> tuple[int, ...]:
    """How far a window of `size` can move in an image, down and to the right."""
    left = tuple(side - wanted for side, wanted in zip(sides, size, strict=True))
    shape = " x ".join(map(str, sides))
    _need(min(left) >= 0, name, f"a crop that fits into {shape} pixels", size)
    return left


# Functions


def function(name: str, value: object, like: str) -> Callable:
    """A callable that is not a class, such as `like`."""
    if isinstance(value, type):
        made = f"{value.__name__}(...)"
        raise TypeError(f"{name}: {value.__name__} is a class; call it first, {made}")
    wanted = f"a callable, such as {like}"
    _need(callable(value), name, wanted, type(value).__name__, TypeError)
    return value


def generator(value: object, name: str = "generator") -> torch.Generator | None:
    """A torch.Generator of the CPU, where draws are made, or None."""
    fits = isinstance(value, torch.Generator | None)
    _need(fits, name, "a torch.Generator", type(value).__name__, TypeError)
    device = "cpu" if value is None else value.device.type
    wanted = "a generator of the CPU, which makes all draws, torch.Generator()"
    _need(device == "cpu", name, wanted, f"one of {device}")
    return value


def no_worker(value: torch.Generator | None) -> torch.Generator | None:
    """A generator or None; RuntimeError in a worker, since each would repeat draws."""
    if value is not None and get_worker_info() is not None:
        raise RuntimeError(
            "generator: every worker would repeat its draws; expected num_workers=0, "
            "which is faster here anyway"
        )
    return value


def transforms(value: object, base: type) -> Sequence:
    """A list of whole-batch transforms, instances of `base`, without generators."""
    fits = isinstance(value, Sequence)
    _need(fits, "transforms", "a list of them", type(value).__name__, TypeError)
    for i, t in enumerate(value):
        if not isinstance(t, base):
            raise TypeError(
                f"transforms[{i}]: expected a transform of d2lext.batch, got "
                f"{type(t).__name__} of {type(t).__module__}; leave out ToTensor (the "
                "data set divides by 255), and wrap others, PerImage(...)"
            )
        if t.generator is not None:
            raise ValueError(
                f"transforms[{i}]: has a generator; give it to the outermost Compose"
            )
    return value


def one_size(name: str, sizes: Sequence[tuple[int, int]]) -> None:
    """Check that the results of all transforms have one size."""
    _need(len(set(sizes)) == 1, name, "results of one size", sorted(set(sizes)))


def in_order(transforms: Sequence) -> Sequence:
    """Whole-batch transforms, each before those whose results it cannot take."""
    for i, t in enumerate(transforms):
        for s in transforms[:i]:
            if (t.colors and s.normalizes) or (t.takes == torch.uint8 and s.floats):
                wanted = "uint8" if t.takes else "colours from 0 to 1"
                raise ValueError(
                    f"transforms[{i}]: {type(t).__name__} needs {wanted}; put "
                    f"{type(s).__name__} behind it"
                )
    return transforms


def merge(whole: object, parts: Sequence) -> None:
    """Give a transform the demands of its parts."""
    whole.channels = [c for c in whole.channels if all(c in t.channels for t in parts)]
    whole.takes = next((t.takes for t in parts if t.takes), None)
    for name in ("colors", "normalizes"):
        setattr(whole, name, any(getattr(t, name) for t in parts))


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
    fits = isinstance(X, np.ndarray) and X.dtype.kind in "iuf"
    got = type(img).__name__ + (f" of {img.dtype}" if hasattr(img, "dtype") else "")
    wanted = "an image (a PIL image, or a tensor or array of numbers)"
    _need(fits, name, wanted, got, TypeError)
    if X.ndim == 3 and X.shape[-1] not in CHANNELS and X.shape[0] in CHANNELS:
        X = X.transpose(1, 2, 0)  # (C, H, W) -> (H, W, C)
    fits = X.ndim == 2 or (X.ndim == 3 and X.shape[2] in CHANNELS)
    wanted = "an image of shape (H, W), (C, H, W) or (H, W, C) with 1, 3 or 4 channels"
    _need(fits and X.size > 0, name, wanted, X.shape)
    X = _bytes(X, name)
    return Image.fromarray(X[..., 0] if X.shape[2:] == (1,) else X)


def _bytes(X: np.ndarray, name: str) -> np.ndarray:
    if X.dtype.kind == "f":
        X = np.nan_to_num(X)
        got = f"up to {X.max():.0f}; divide by 255?"
        _need(X.max() <= 2, name, "floats from 0 to 1", got)
        X = (X.clip(0, 1) * 255).round()
    fits = X.min() >= 0 and X.max() <= 255
    _need(fits, name, "integers from 0 to 255", f"{X.min()} to {X.max()}")
    return X.astype(np.uint8)


def tensor(name: str, x: object) -> torch.Tensor:
    """The result of a transform, a tensor."""
    wanted = "a tensor as its result; end with ToImage() and ToDtype(), or ToTensor()"
    _need(isinstance(x, torch.Tensor), name, wanted, type(x).__name__, TypeError)
    return x


# Batches and labels


def batch(X: object, channels: Sequence[int] = (1, 2, 3, 4)) -> torch.Tensor:
    """A batch (n, c, h, w) of uint8 or floats, with so many channels."""
    fits = isinstance(X, torch.Tensor)
    fits = fits and (X.dtype == torch.uint8 or X.is_floating_point())
    wanted = "a batch, a tensor of uint8 or of floats from 0 to 1"
    _need(fits, "X", wanted, getattr(X, "dtype", type(X).__name__), TypeError)
    fits = X.ndim == 4 and X.shape[1] in channels and 0 not in X.shape
    wanted = f"(n, {' or '.join(map(str, channels))}, height, width)"
    wanted = f"a batch of shape {wanted} (PerImage may take others)"
    _need(fits, "X", wanted, tuple(X.shape))
    return X


def colors(X: torch.Tensor) -> torch.Tensor:
    """A batch whose floats lie between 0 and 1."""
    low, high = (0, 1) if X.dtype == torch.uint8 else map(float, X.aminmax())
    got = f"{low:g} to {high:g}; divide images of 0 to 255 by 255, and normalize last"
    _need(low >= -1e-3 and high <= 1 + 1e-3, "X", "floats from 0 to 1", got)
    return X


def bytes_first(X: torch.Tensor, name: str) -> torch.Tensor:
    """A batch of uint8, for a transform of this name."""
    wanted = f"uint8 for {name} (put it before transforms to floats, or use PerImage)"
    _need(X.dtype == torch.uint8, "X", wanted, X.dtype, TypeError)
    return X


def _tensor(value: object) -> torch.Tensor:
    """A tensor where it is; `torch.as_tensor` would move it to the default device."""
    there = isinstance(value, torch.Tensor)
    return value if there else torch.as_tensor(value, device="cpu")


def images(name: str, X: object) -> torch.Tensor:
    """Images of a data set: uint8 (n, h, w, c); (n, h, w) gets a channel."""
    X = _tensor(X)
    X = X[..., None] if X.ndim == 3 else X
    fits = X.dtype == torch.uint8 and X.ndim == 4 and 0 not in X.shape
    wanted = "uint8 images of shape (n, height, width, channels)"
    _need(fits and X.shape[3] <= 4, name, wanted, _kind(X))
    return X


def labels(name: str, y: object, n: int) -> torch.Tensor:
    """Labels of n images: class indices (n,) as int64, or numbers (n, classes)."""
    y = _tensor(y)
    fits = y.ndim == 2 or (y.ndim == 1 and y.dtype in INTEGERS)
    wanted = f"{n} labels, one for each image: class indices, or ({n}, classes)"
    _need(fits and len(y) == n, name, wanted, _kind(y))
    if y.is_floating_point():
        return y.float()
    return y.long() if y.ndim == 1 else y


def floats(name: str, x: object) -> torch.Tensor:
    """A tensor of floats."""
    fits = isinstance(x, torch.Tensor) and x.is_floating_point()
    got = getattr(x, "dtype", type(x).__name__)
    got = f"{got}; d2lext.batch.to_float makes floats of uint8"
    _need(fits, name, "a tensor of floats", got, TypeError)
    return x


def indices(name: str, y: object, n: int, soft: bool = False) -> torch.Tensor:
    """Class indices of n examples: integers (n,); if `soft`, or floats (n, classes)."""
    fits = isinstance(y, torch.Tensor) and y.dtype in INTEGERS and y.ndim == 1
    wanted = "class indices, a tensor of integers of shape (n,)"
    if soft and isinstance(y, torch.Tensor) and not fits:
        fits = y.is_floating_point() and y.ndim == 2
        wanted += ", or probabilities of shape (n, classes)"
    _need(fits, name, wanted, _kind(y), TypeError)
    if len(y) != n:
        raise ValueError(f"{name}: has {len(y)} labels for {n} examples")
    return y


def shape(name: str, x: torch.Tensor, words: str) -> torch.Tensor:
    """A tensor of as many dimensions as the words name, such as (n, c, h, w)."""
    _need(x.ndim == words.count(",") + 1, name, f"shape {words}", tuple(x.shape))
    return x


def mixable(x: object, y: object, other: tuple | None = None) -> None:
    """A batch of floats and its labels, and another of the same shapes, or None."""
    indices("y", y, len(floats("x", x)), soft=True)
    if other is None:
        return
    floats("other[0]", other[0])
    indices("other[1]", other[1], len(x), soft=True)
    for i, name, first in ((0, "x", x), (1, "y", y)):
        wanted, got = tuple(first.shape), tuple(other[i].shape)
        _need(got == wanted, f"other[{i}]", f"the shape of {name}, {wanted}", got)


def weights(lam: object, losses: torch.Tensor) -> object:
    """A number, or one for each of n losses."""
    if not isinstance(lam, torch.Tensor) or lam.ndim == 0:
        return lam
    _need(lam.ndim == 1, "lam", "a number, or shape (n,)", f"shape {tuple(lam.shape)}")
    wanted = f"{len(lam)} values, one per example as lam has"
    hint = f'shape {tuple(losses.shape)}; make it with reduction="none"'
    _need(lam.shape == losses.shape, "criterion", wanted, hint)
    return lam


def targets(y: object, pred: torch.Tensor) -> torch.Tensor:
    """Labels for outputs (n, classes, ...): class indices (n, ...), or probabilities.

    Those are floats of the shape of pred, such as one-hot or mixed labels. Values
    on a GPU are not read, since every step would wait for them.
    """
    shape, wanted = tuple(pred.shape), "outputs (n, classes), of two classes or more"
    fits = pred.ndim >= 2 and shape[1] >= 2
    _need(fits, "net", wanted, f"{shape}; its accuracy is not defined")
    index, classes = shape[:1] + shape[2:], shape[1]
    soft = isinstance(y, torch.Tensor) and y.is_floating_point()
    fits = isinstance(y, torch.Tensor) and y.shape == (shape if soft else index)
    wanted = f"class indices, integers of shape {index}, or their probabilities, "
    _need(fits, "y", f"{wanted}floats of shape {shape}", _kind(y))
    if y.device.type != "cpu":
        return y
    low, high = (y.sum(1) if soft else y).aminmax()
    if soft:
        fits = y.min() >= 0 and low > 0.99 and high < 1.01
        got = f"sums from {low:.2f} to {high:.2f}, and {y.min():.2f} as the least"
        _need(fits, "y", f"probabilities of {classes} classes, which sum to 1", got)
    else:
        wanted = f"labels from 0 to {classes - 1}, since net has {classes} outputs"
        _need(low >= 0 and high < classes, "y", wanted, f"{low} to {high}")
    return y


def losses(l: torch.Tensor, y: torch.Tensor, loss: Callable) -> torch.Tensor:
    """What `loss` returned for labels y: one value per label."""
    index = y.shape[:1] + y.shape[2:] if y.is_floating_point() else y.shape
    got = "one for all" if l.ndim == 0 else f"shape {tuple(l.shape)}"
    got += '; make it with reduction="none"'
    wanted = f"one value per example, shape {tuple(index)}"
    _need(l.shape in (y.shape, index), "loss", wanted, got)
    if getattr(loss, "ignore_index", -1) >= 0:
        raise ValueError(
            f"loss: ignore_index={loss.ignore_index} leaves examples out of the loss, "
            "but not out of accuracy and counts; leave them out of the data"
        )
    return l


# Nets, devices and training

PARALLEL = {"DistributedDataParallel", "FullyShardedDataParallel", "FSDPModule"}


def devices(value: object) -> list[torch.device]:
    """Devices, from one or several: "cpu", "cuda:1", "mps" or torch.device."""
    several = [value] if isinstance(value, str | torch.device) else value
    try:
        found = [torch.device(d) for d in several]
    except (RuntimeError, TypeError):
        found = []
    wanted = 'one or several of "cpu", "cuda:0", "mps" and the like'
    _need(found, "devices", wanted, repr(value))
    return found


def parallel(net: nn.Module, processes: int) -> int:
    """The number of processes, which must average the gradients of all weights."""
    if processes == 1:
        return 1
    shared = {
        p
        for part in net.modules()
        if PARALLEL & {c.__name__ for c in type(part).__mro__}
        for p in part.parameters()
    }
    if any(p.requires_grad and p not in shared for p in net.parameters()):
        raise ValueError(
            f"net: its copies would diverge in {processes} processes; wrap all of it, "
            "DistributedDataParallel(net), or train it alone with sync=False"
        )
    return processes


def shares(examples: int, batches: int, processes: int) -> int:
    """The size of the smallest batch: at least one example for each process."""
    smallest = examples // batches
    if smallest < processes:
        raise ValueError(
            f"batch_size: {examples} examples in {batches} batches leave {smallest} "
            f"for {processes} processes; take larger batches or fewer processes"
        )
    return smallest


def initialized(net: nn.Module) -> nn.Module:
    """A net without lazy layers that have no weights yet."""
    if any(isinstance(p, nn.UninitializedParameter) for p in net.parameters()):
        raise ValueError(
            "net: has lazy layers without weights; call net(X) once, before you "
            "initialise it and before you make its trainer"
        )
    return net


def trainer_of(net: nn.Module, trainer: torch.optim.Optimizer) -> torch.optim.Optimizer:
    """An optimizer that holds some of net's weights."""
    held = {p for group in trainer.param_groups for p in group["params"]}
    if held.isdisjoint(net.parameters()):
        raise ValueError(
            "trainer: holds none of net's weights, so it would train another net; "
            "create it again from net.parameters()"
        )
    return trainer


def record(name: str, value: object) -> dict:
    """Facts to record with a run: a dictionary that JSON can hold; None is empty."""
    try:
        return json.loads(json.dumps(dict(value or {}), allow_nan=False))
    except (TypeError, ValueError) as error:
        wanted = "a dictionary that JSON can hold, for the record of the run"
        raise TypeError(f"{name}: expected {wanted}; {error}") from None


def not_empty(name: str, data_iter: object) -> object:
    """Something with a length > 0, such as a DataLoader or a list of batches."""
    wanted, got = "batches with a length, a DataLoader or a list", _kind(data_iter)
    _need(hasattr(data_iter, "__len__"), name, wanted, got, TypeError)
    if len(data_iter) == 0:
        raise ValueError(f"{name}: has no batches")
    return data_iter
