"""Where the course keeps its data: find it, verify it, cache it, download it.

`python -m d2lext.images` says which pictures the lessons would use now; with
`--download` it first fetches CIFAR-10 (170 MB) into `data/`.
"""

import argparse
import contextlib
import hashlib
import http.client
import json
import os
import sys
import tempfile
import urllib.error
import urllib.request
import uuid
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from filelock import FileLock, Timeout
from PIL import Image
from torchvision.datasets import CIFAR10
from torchvision.datasets.utils import check_integrity, extract_archive

from d2lext.places import COURSE, DATA

VARIABLE = "D2LEXT_CIFAR10"
CLASSES = (
    *("airplane", "automobile", "bird", "cat", "deer"),
    *("dog", "frog", "horse", "ship", "truck"),
)
SIDE = 32
ENDINGS = (".png", ".jpg", ".jpeg")
CHUNK = 1 << 16
TIMEOUT = 30  # seconds without a byte


class Source(NamedTuple):
    """Which data these are; `str(source)` says it to the reader.

    kind: "sample" (bundled), "official" (CIFAR-10's python version) or "folder" (of
    image files). count: of images. folder: where they were found; None leaves it out of
    the sentence. detail: more for the reader; of a folder, the endings of its files.
    """

    kind: str
    is_train: bool
    count: int
    folder: Path | None
    detail: str = ""

    def __str__(self) -> str:
        half = "training" if self.is_train else "testing"
        count = f"{self.count:,} images for {half}"
        if self.kind == "sample":
            more = f" ({self.detail})" if self.detail else ""
            standing_in = "emoji that stand in for CIFAR-10"
            return f"the bundled sample, {count}: {standing_in}{more}"
        where = f", in {self.folder}" if self.folder else ""
        if self.kind == "official":
            return f"CIFAR-10, the official version, {count}{where}"
        return f"CIFAR-10 as a folder of images ({self.detail}), {count}{where}"


class Images(NamedTuple):
    """One half of the data set, and which data it is.

    X: uint8, (n, 32, 32, 3). y: int64, (n,), indices into `classes`.
    """

    X: torch.Tensor
    y: torch.Tensor
    classes: tuple[str, ...]
    source: Source


def data_path(name: str) -> Path:
    """Return the path of a file that comes with the course, wherever you run from.

    Raises FileNotFoundError, with the names that exist, for a file that is not there.
    """
    folder = COURSE / "data"
    path = folder / name
    if not path.exists():
        there = sorted(p.name for p in folder.glob("*")) if folder.is_dir() else []
        raise FileNotFoundError(
            f"no {name!r} in the course's data folder, which has: "
            f"{', '.join(there) or 'nothing'}; `git checkout data` restores it"
        )
    return path


def read_cifar10(
    is_train: bool,
    root: str | os.PathLike | None = None,
    download: bool = False,
    official: type[CIFAR10] = CIFAR10,
) -> Images:
    """Read CIFAR-10 from wherever it is, else the bundled sample.

    Looks into `root`, else the folder that the variable D2LEXT_CIFAR10 names, else the
    course's `data/`, for the official python version (unpacked or not) and then for a
    folder of pictures `train/<class>/*.png` or `.jpg`, `test/<class>/...`. Only when
    there is neither, `download=True` fetches the official archive into that folder.
    D2LEXT_CIFAR10=sample forces the sample, unless `root` is given. `official` is
    torchvision's class, or one derived from it with another address and checksums.

    Raises FileNotFoundError or ValueError, naming the file and the way out, for a
    folder that is not there and for data that is not as it should be.
    """
    if root is None and os.environ.get(VARIABLE) == "sample":
        return _read_sample(is_train)
    folder = _folder(root, create=download)
    found = _read_official(folder, is_train, download, official)
    if found is None and _is_image_folder(folder):
        found = _read_image_folder(folder, is_train)
    if found is None and download:
        download_cifar10(folder, official=official)
        found = _read_archive(folder, is_train, official)
    if found is not None:
        return found
    _check_level(folder)
    return _read_sample(is_train, "" if folder == DATA else f"no CIFAR-10 in {folder}")


def download_cifar10(
    root: str | os.PathLike = DATA,
    url: str | None = None,
    official: type[CIFAR10] = CIFAR10,
) -> Path:
    """Fetch the official archive into `root`, verified, and return its path.

    A broken download goes on where it stopped, as long as each try brings something,
    and also when this is called again. `url` is a mirror's address.
    Raises ConnectionError if nothing more comes, ValueError if what came is not
    CIFAR-10; the archive's own name is given only to a file that was verified.
    """
    url = url or official.url
    archive = Path(root, official.filename)
    if check_integrity(archive, official.tgz_md5):
        return archive
    archive.parent.mkdir(parents=True, exist_ok=True)
    with _alone(archive):
        # Another process may have fetched it meanwhile.
        if not check_integrity(archive, official.tgz_md5):
            _fetch(url, archive, official)
    return archive


@contextlib.contextmanager
def _alone(archive: Path) -> Iterator[None]:
    """Wait until no other process is fetching this archive; its end frees the lock."""
    lock = FileLock(f"{archive}.lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        _note(f"{archive.name} is being downloaded by another process; waiting for it")
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


def _fetch(url: str, archive: Path, official: type[CIFAR10]) -> None:
    part = archive.with_name(archive.name + ".part")
    while True:
        had = _size(part)
        try:
            _fetch_rest(url, part)
            break
        except (OSError, http.client.HTTPException) as error:
            if _size(part) > had:
                continue
            raise ConnectionError(
                f"{url}: the download stopped after {_size(part) / 1e6:.1f} MB "
                f"({error}); try again to go on from there, or put "
                f"{official.filename} from elsewhere into {archive.parent}"
            ) from error
    if not check_integrity(part, official.tgz_md5):
        part.unlink()
        raise ValueError(
            f"{url}: what came is not {official.filename} (wrong md5) and was deleted; "
            "try again, or use another mirror"
        )
    os.replace(part, archive)


def _fetch_rest(url: str, part: Path) -> None:
    """Append to `part` what is missing of it."""
    start = _size(part)
    # Without a range at first, since some servers refuse one.
    headers = {"Range": f"bytes={start}-"} if start else {}
    try:
        answer = urllib.request.urlopen(
            urllib.request.Request(url, headers=headers), timeout=TIMEOUT
        )
    except urllib.error.HTTPError as error:
        if error.code == http.client.REQUESTED_RANGE_NOT_SATISFIABLE:
            return  # nothing is missing, or the checksum will tell
        raise
    with answer:
        resumed = answer.status == http.client.PARTIAL_CONTENT
        start = start if resumed else 0
        total = start + answer.length if answer.length is not None else None
        with part.open("ab" if resumed else "wb") as file:
            while chunk := answer.read(CHUNK):
                file.write(chunk)
                _show_progress(part.stem, file.tell(), total)
    print(file=sys.stderr)
    if total is not None and _size(part) < total:
        raise http.client.IncompleteRead(b"", total - _size(part))


def _show_progress(name: str, done: int, total: int | None) -> None:
    of = f" of {total / 1e6:.1f}" if total else ""
    bar = f"{'#' * (30 * done // total):30}|" if total else ""
    print(f"\r{name} |{bar} {done / 1e6:.1f}{of} MB", end="", file=sys.stderr)


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _folder(root: str | os.PathLike | None, create: bool = False) -> Path:
    """The folder to look into; it may be missing only if it is the default."""
    named = {"root": root, VARIABLE: os.environ.get(VARIABLE)}
    for name, value in named.items():
        if not value or (value == "sample" and name == VARIABLE):
            continue
        folder = Path(value).expanduser()
        if create:
            folder.mkdir(parents=True, exist_ok=True)
        if not folder.is_dir():
            raise FileNotFoundError(
                f"{name}: there is no folder {str(folder)!r}; name the folder that "
                f"holds {CIFAR10.base_folder}, {CIFAR10.filename} or train/ and test/"
            )
        return folder
    if create:
        DATA.mkdir(parents=True, exist_ok=True)
    return DATA


def _check_level(folder: Path) -> None:
    """Find the folder too deep by one level."""
    if (folder / "data_batch_1").exists() or (folder / CLASSES[0]).is_dir():
        raise ValueError(
            f"{folder}: holds a part of CIFAR-10; name the folder above it, "
            f"{folder.parent}"
        )


# The official version


def _read_official(
    root: Path, is_train: bool, download: bool, official: type[CIFAR10]
) -> Images | None:
    """Read the unpacked version, else unpack the archive; None if there is neither."""
    if (root / official.base_folder).is_dir():
        try:
            return _read_unpacked(root, is_train, official)
        except ValueError:
            if not download and not (root / official.filename).is_file():
                raise
            if download:
                download_cifar10(root, official=official)
            return _read_archive(root, is_train, official)
    if (root / official.filename).is_file():
        if download:
            download_cifar10(root, official=official)
        return _read_archive(root, is_train, official)
    return None


def _read_unpacked(root: Path, is_train: bool, official: type[CIFAR10]) -> Images:
    folder = root / official.base_folder
    try:
        read = official(root, train=is_train)  # unpickles only what has the right md5
    except RuntimeError as error:
        bad = [p for p, md5 in _parts(folder, official) if not check_integrity(p, md5)]
        raise ValueError(
            f"{', '.join(map(str, bad)) or folder}: missing, truncated or altered (the "
            f"md5 is not CIFAR-10's); delete {folder} and unpack {official.filename} "
            "again, or download it: download=True (into data/: make cifar10)"
        ) from error
    return Images(
        torch.from_numpy(np.ascontiguousarray(read.data)),
        torch.tensor(read.targets),
        tuple(read.classes),
        Source("official", is_train, len(read), folder),
    )


def _parts(folder: Path, official: type[CIFAR10]) -> Iterator[tuple[Path, str]]:
    """Each file that the official version has, and its md5."""
    meta = (official.meta["filename"], official.meta["md5"])
    for name, md5 in (*official.train_list, *official.test_list, meta):
        yield folder / name, md5


def _read_archive(root: Path, is_train: bool, official: type[CIFAR10]) -> Images:
    """Verify and unpack the archive, and keep what it holds beside it if we may."""
    archive = root / official.filename
    if not check_integrity(archive, official.tgz_md5):
        raise ValueError(
            f"{archive}: truncated or altered (the md5 is not CIFAR-10's); delete it "
            "and download it again: download=True (into data/: make cifar10)"
        )
    with _temporary_folder(root) as temporary:
        extract_archive(archive, temporary)
        read = _read_unpacked(Path(temporary), is_train, official)
        kept = root / official.base_folder
        try:
            kept.mkdir(exist_ok=True)
            for path, _ in _parts(Path(temporary, official.base_folder), official):
                os.replace(path, kept / path.name)
        except OSError as error:
            _note(f"{archive} was unpacked for this time only ({error})")
    return read._replace(source=read.source._replace(folder=archive))


def _temporary_folder(root: Path) -> tempfile.TemporaryDirectory:
    """A folder in `root`, so that files can be renamed into it; else the system's."""
    try:
        return tempfile.TemporaryDirectory(dir=root, prefix="cifar-10-unpacking-")
    except OSError:
        return tempfile.TemporaryDirectory()


# A folder of pictures


def _is_image_folder(root: Path) -> bool:
    return (root / "train").is_dir() or (root / "test").is_dir()


def _read_image_folder(root: Path, is_train: bool) -> Images:
    """Decode the pictures, or take them from the cache if no file has changed.

    They come in a mixed order, always the same, so that the first n are of all classes.
    """
    split = "train" if is_train else "test"
    files = _picture_files(root / split)
    # Changed by a file that is added, removed, renamed, or written again.
    listed = (
        f"{label} {file.name} {file.stat().st_size} {file.stat().st_mtime_ns}\n"
        for label, file in files
    )
    key = hashlib.sha256("".join(listed).encode(errors="surrogateescape")).hexdigest()
    cache = root / f"cifar-10-{split}.npz"
    arrays = _load_cache(cache, key)
    if arrays is None:
        arrays = _decode([files[i] for i in _mixed(len(files))])
        _save_cache(cache, key, *arrays)
    X, y = map(torch.from_numpy, arrays)
    kinds = sorted({Path(file.name).suffix[1:].lower() for _, file in files})
    source = Source("folder", is_train, len(y), root, ", ".join(kinds))
    return Images(X, y, CLASSES, source)


def _mixed(n: int) -> np.ndarray:
    return np.random.default_rng(0).permutation(n)


def _picture_files(folder: Path) -> list[tuple[int, os.DirEntry]]:
    """Label and file of every picture below `folder`, class by class, by name."""
    if not folder.is_dir():
        raise ValueError(
            f"{folder}: this folder is missing; beside it there must be train/ and "
            "test/, each with a folder for every class"
        )
    there = {p.name for p in folder.iterdir() if p.is_dir() and p.name[0] != "."}
    for wrong, what in (
        (set(CLASSES) - there, "missing"),
        (there - set(CLASSES), "not one of CIFAR-10's ten"),
    ):
        if wrong:
            raise ValueError(
                f"{folder}: class folder {', '.join(sorted(wrong))}: {what}; there "
                f"must be just these: {', '.join(CLASSES)}"
            )
    files = []
    for label, name in enumerate(CLASSES):
        # A DirEntry asks the system once for what pathlib asks three times.
        with os.scandir(folder / name) as entries:
            of_class = [(label, e) for e in entries if _is_picture(e.name)]
        if not of_class:
            raise ValueError(
                f"{folder / name}: no picture (.png or .jpg) in it; copy it again"
            )
        files += sorted(of_class, key=lambda file: file[1].name)
    return files


def _is_picture(name: str) -> bool:
    return name[0] != "." and name.lower().endswith(ENDINGS)


def _decode(files: list[tuple[int, os.DirEntry]]) -> tuple[np.ndarray, np.ndarray]:
    X = np.empty((len(files), SIDE, SIDE, 3), dtype=np.uint8)
    for i, (_, file) in enumerate(files):
        X[i] = _decoded(file.path)
        if (i + 1) % 1000 == 0:
            print(f"\rdecoding {i + 1:,} of {len(X):,}", end="", file=sys.stderr)
    if len(X) >= 1000:
        print(file=sys.stderr)
    return X, np.array([label for label, _ in files], dtype=np.int64)


def _decoded(path: str) -> np.ndarray:
    try:
        with Image.open(path) as img:
            if img.size == (SIDE, SIDE) and img.mode == "RGB":
                return np.asarray(img)
            what = f"{img.width} x {img.height}, {img.mode}"
    except (OSError, SyntaxError, ValueError) as error:
        raise ValueError(
            f"{path}: this picture cannot be read ({error}); copy it again or delete it"
        ) from error
    raise ValueError(
        f"{path}: expected a picture of {SIDE} x {SIDE}, RGB, got {what}; convert it "
        "or delete it"
    )


def _load_cache(cache: Path, key: str) -> tuple[np.ndarray, np.ndarray] | None:
    try:
        with np.load(cache, allow_pickle=False) as stored:
            if str(stored["key"]) != key:
                return None
            return stored["X"], stored["y"]
    except (OSError, EOFError, KeyError, ValueError, zipfile.BadZipFile):
        return None  # none, or one that cannot be read: decode again


def _save_cache(cache: Path, key: str, X: np.ndarray, y: np.ndarray) -> None:
    """Write the cache under another name first: no process sees half of it."""
    part = cache.with_name(f"{cache.name}.{uuid.uuid4().hex}.part")
    try:
        try:
            with part.open("xb") as file:
                np.savez(file, key=np.array(key), X=X, y=y)
            os.replace(part, cache)
        finally:
            part.unlink(missing_ok=True)
    except OSError as error:
        _note(f"the decoded pictures were not kept in {cache} ({error})")


# The bundled sample


def _read_sample(is_train: bool, detail: str = "") -> Images:
    folder, split = data_path("sample"), "train" if is_train else "test"
    index = json.loads((folder / "labels.json").read_text(encoding="utf-8"))
    with Image.open(folder / f"{split}.png") as sheet:
        columns = sheet.width // SIDE
        tiles = np.asarray(sheet).reshape(-1, SIDE, columns, SIDE, 3).swapaxes(1, 2)
    X = torch.from_numpy(tiles.reshape(-1, SIDE, SIDE, 3))
    source = Source("sample", is_train, len(X), folder, detail)
    return Images(X, torch.tensor(index[split]), tuple(index["classes"]), source)


def _note(words: str) -> None:
    print(f"note: {words}", file=sys.stderr)


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m d2lext.images", description=__doc__
    )
    parser.add_argument("--download", action="store_true", help="fetch CIFAR-10")
    parser.add_argument("--root", type=Path, help="the folder (default: data/)")
    parser.add_argument("--url", help="another address of the same archive")
    args = parser.parse_args(argv)
    root = args.root
    try:
        if args.download:
            root = _folder(args.root, create=True)
            if args.url:
                download_cifar10(root, args.url)
        for is_train in (True, False):
            print(read_cifar10(is_train, root, args.download).source)
    except (OSError, ValueError) as error:
        print(f"store: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
