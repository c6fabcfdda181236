"""Save the state of a training run to a file atomically, and resume from it."""

import contextlib
import os
import sys
from pathlib import Path

import torch

from d2lext.multi_gpu import History, Point
from d2lext.train.processes import differing

STATE = ("net", "trainer", "scheduler")


def open_checkpoint(
    path: str | os.PathLike, resume: bool, settings: dict
) -> dict | None:
    """The state to resume from, or None; first checks that `path` can be written.

    Raises ValueError for a path that cannot be written, for a file that is not a
    checkpoint of a run with these settings, and for any file if `resume` is False.
    """
    path = Path(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.is_dir():
            raise IsADirectoryError("it is a folder")
        _part(path).touch()
        _part(path).unlink()
    except OSError as error:
        raise ValueError(
            f"checkpoint {path}: cannot be written ({error}); name another file"
        ) from error
    if path.exists() and not resume:
        raise ValueError(
            f"checkpoint {path}: exists; resume from it (--resume), or delete it"
        )
    if not path.exists():
        if resume:
            print(f"note: there is no checkpoint {path} yet; starting from scratch")
        return None
    try:
        saved = torch.load(path, map_location="cpu", weights_only=True)
        theirs, *_ = [saved[name] for name in ("settings", "history", *STATE)]
        other = differing(settings, theirs)
    except Exception as error:  # torch.load raises many kinds for a broken file
        words = str(error).partition("\n")[0] or type(error).__name__
        raise ValueError(
            f"checkpoint {path}: cannot be read ({words}); delete it and start again"
        ) from error
    if other:
        words = "; ".join(f"{name} was {b!r}, is {a!r}" for name, a, b in other)
        raise ValueError(
            f"checkpoint {path}: belongs to another run ({words}); use the same "
            "options and data, or name another file"
        )
    return saved


def restore(state: dict, saved: dict | None) -> History:
    """Load a saved state into the parts of `state`, and return its history."""
    if saved is None:
        return History()
    for name in STATE:
        state[name].load_state_dict(saved[name])
    return History(Point(*numbers) for numbers in saved["history"])


def save(path: str | os.PathLike, settings: dict, state: dict, history: History):
    """Replace the file by the current state; if that fails, print a note."""
    path = Path(path)
    saved = {name: state[name].state_dict() for name in STATE}
    saved |= {"settings": settings, "history": list(map(tuple, history))}
    try:  # under another name first: a kill here leaves the old file intact
        torch.save(saved, _part(path))
        os.replace(_part(path), path)
    except (OSError, RuntimeError) as error:  # torch's own, if the disk is full
        with contextlib.suppress(OSError):
            _part(path).unlink()
        words = str(error).partition("\n")[0]
        print(
            f"note: epoch {len(history)} was not saved in {path} ({words})",
            file=sys.stderr,
        )


def _part(path: Path) -> Path:
    return path.with_name(path.name + ".part")
