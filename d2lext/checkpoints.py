"""The state of a training run in a file, whole or not at all, and of this run only."""

import contextlib
import os
import sys
from pathlib import Path

import torch

from d2lext.multi_gpu import History, Point
from d2lext.processes import differing

STATE = ("net", "trainer", "scheduler")


def open_checkpoint(
    path: str | os.PathLike, resume: bool, settings: dict
) -> dict | None:
    """The state to go on from, if it is there; first sees that path can be written.

    Raises ValueError for a path that cannot be written, a file that is no checkpoint,
    one of a run with other settings, and one that is not to be resumed.
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
            print(f"note: no checkpoint {path} yet, so training starts anew")
        return None
    try:
        saved = torch.load(path, map_location="cpu", weights_only=True)
        theirs, *_ = [saved[name] for name in ("settings", "history", *STATE)]
        other = differing(settings, theirs)
    except Exception as error:  # what half a file makes torch.load raise depends on it
        words = str(error).partition("\n")[0] or type(error).__name__
        raise ValueError(
            f"checkpoint {path}: cannot be read ({words}); delete it to start anew"
        ) from error
    if other:
        words = "; ".join(f"{name} was {b!r}, is {a!r}" for name, a, b in other)
        raise ValueError(
            f"checkpoint {path}: is of another run ({words}); give the same options "
            "and data, or another checkpoint"
        )
    return saved


def restore(state: dict, saved: dict | None) -> History:
    """Load what was saved into the parts of a state; the history so far."""
    if saved is None:
        return History()
    for name in STATE:
        state[name].load_state_dict(saved[name])
    return History(Point(*numbers) for numbers in saved["history"])


def save(path: str | os.PathLike, settings: dict, state: dict, history: History):
    """Replace the file by the state of now; where that fails, print a note."""
    path = Path(path)
    saved = {name: state[name].state_dict() for name in STATE}
    saved |= {"settings": settings, "history": list(map(tuple, history))}
    try:  # under another name: being killed here leaves the last one whole
        torch.save(saved, _part(path))
        os.replace(_part(path), path)
    except (OSError, RuntimeError) as error:  # torch's own, where the disk is full
        with contextlib.suppress(OSError):
            _part(path).unlink()
        words = str(error).partition("\n")[0]
        print(f"note: epoch {len(history)} is not in {path} ({words})", file=sys.stderr)


def _part(path: Path) -> Path:
    return path.with_name(path.name + ".part")
