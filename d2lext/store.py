"""Where the course keeps its data: find, and say plainly what is missing."""

from pathlib import Path

DATA = Path(__file__).resolve().parent.parent / "data"


def data_path(name: str) -> Path:
    """Return the path of a file that comes with the course, wherever you run from.

    Raises FileNotFoundError, with the names that exist, for a file that is not there.
    """
    path = DATA / name
    if not path.exists():
        there = sorted(p.name for p in DATA.glob("*")) if DATA.is_dir() else []
        raise FileNotFoundError(
            f"no {name!r} in the course's data folder, which has: "
            f"{', '.join(there) or 'nothing'}; `git checkout data` restores it"
        )
    return path
