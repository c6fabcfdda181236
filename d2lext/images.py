"""Find the images of the course, verify them, and download CIFAR-10.

`python -m d2lext.images` says which images the lessons use now; with `--download` it
first downloads CIFAR-10 (170 MB).
"""

import argparse
import contextlib
import csv
import gzip
import hashlib
import json
import os
import pickle
import sys
import tarfile
import zlib
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image
from torchvision.datasets import CIFAR10, ImageFolder

from d2lext.fetch import fetch
from d2lext.places import COURSE, DATA, print_any_name

VARIABLE = "D2LEXT_CIFAR10"
CLASSES = (
    *("airplane", "automobile", "bird", "cat", "deer"),
    *("dog", "frog", "horse", "ship", "truck"),
)
SIDE = 32
ABOVE = "holds a part of CIFAR-10; name its parent folder, {0.parent}"
OTHER = "has CIFAR-10 as {}, which d2lext cannot read; add cifar-10-python.tar.gz"
UNREAD = {  # files of forms that cannot be read, and what to do
    ("data_batch_1", "airplane"): ABOVE,
    ("*.parquet", "*/*.parquet"): OTHER.format("parquet files"),
    ("*.bin", "cifar-10-bat*bin", "cifar-10-bin*"): OTHER.format("binary files"),
    ("*.mat", "cifar-10-*mat*"): OTHER.format("Matlab files"),
    ("train.7z",): "unpack its train.7z there, beside trainLabels.csv",
    ("train", "test"): f"train/ and test/ need these folders: {', '.join(CLASSES)}",
}


class Source(NamedTuple):
    """The origin of images; `str(source)` describes it to the reader.

    kind: "sample" (bundled), "official" (CIFAR-10's python version) or "folder" (of
        image files).
    folder: the place of the images.
    detail: further words for the reader.
    """

    kind: str
    is_train: bool
    count: int
    folder: Path
    detail: str = ""

    def __str__(self) -> str:
        half = "training" if self.is_train else "testing"
        count = f"{self.count:,} images for {half}"
        if self.kind == "sample":
            more = f" ({self.detail})" if self.detail else ""
            return (
                f"the bundled sample, {count}: emoji that stand in for CIFAR-10{more}"
            )
        form = ", the official version" if self.kind == "official" else self.detail
        return f"CIFAR-10{form}, {count}, in {self.folder}"


class Images(NamedTuple):
    """Training or test images, with their labels and their source.

    X: uint8, (n, 32, 32, 3).
    y: int64, (n,), indices into `classes`.
    """

    X: torch.Tensor
    y: torch.Tensor
    classes: tuple[str, ...]
    source: Source


def data_path(name: str) -> Path:
    """Return the path of a file that comes with the course, wherever you run from.

    Raises FileNotFoundError, with the names that exist, if there is no such file.
    """
    path = COURSE / "data" / name
    if not path.exists():
        there = ", ".join(sorted(p.name for p in path.parent.glob("*"))) or "nothing"
        raise FileNotFoundError(
            f"no {name!r} in the course's data folder, which has: {there}; "
            "`git checkout data`, or installing d2lext again, restores it"
        )
    return path


def read_cifar10(
    is_train: bool, root: str | os.PathLike | None = None, download: bool = False
) -> Images:
    """Read CIFAR-10 if it is on this machine, else the bundled sample.

    It may be the official python version (unpacked or not), `train/<class>/*.png` or
    `.jpg` and `test/<class>/...`, or Kaggle's competition (`train/1.png` and
    `trainLabels.csv`; a fifth is held out for testing).

    root: the folder of CIFAR-10, or one above it; default: the folder in the variable
        D2LEXT_CIFAR10, else `DATA`. The word "sample", here or in the variable, forces
        the sample (./sample names a folder).
    download: whether to download the official archive if there is no CIFAR-10.
    Raises FileNotFoundError for a folder that does not exist, ValueError for invalid
    data; each names the file and the remedy.
    """
    split = "train" if is_train else "test"
    if str(root or os.environ.get(VARIABLE)) == "sample":
        return read_sample(split)
    folder = _folder(root, download)
    for place in (folder, *_folders(folder)):
        try:
            found = _read_official(place, is_train)
        except ValueError:
            if not download:
                raise
            break
        if found or (found := _read_files(place, split)):
            return found
    if download:
        return _read_official(download_cifar10(folder).parent, is_train)
    for patterns, way_out in UNREAD.items():
        if any(path for pattern in patterns for path in folder.glob(pattern)):
            raise ValueError(f"{folder}: {way_out.format(folder)}")
    return read_sample(split, "" if folder == DATA else f"no CIFAR-10 in {folder}")


def read_sample(split: str, detail: str = "") -> Images:
    """Read a split of the bundled sample: "train", "test", or "val" (held out)."""
    folder = data_path("sample")
    index = json.loads((folder / "labels.json").read_text(encoding="utf-8"))
    with Image.open(folder / f"{split}.png") as sheet:
        tiles = np.asarray(sheet).reshape(-1, SIDE, sheet.width // SIDE, SIDE, 3)
    X = tiles.swapaxes(1, 2).reshape(-1, SIDE, SIDE, 3)
    detail = detail or ("held out, for choosing settings" if split == "val" else "")
    source = Source("sample", split == "train", len(X), folder, detail)
    return _images(X, index[split], source)


def _images(X: np.ndarray, y: list[int], source: Source) -> Images:
    # Not torch.tensor, which would use the default device.
    return Images(*map(torch.from_numpy, (X, np.array(y, np.int64))), CLASSES, source)


def _folder(root: str | os.PathLike | None, create: bool = False) -> Path:
    """The folder to look into; a named one must exist, unless it is to be created."""
    variable = os.environ.get(VARIABLE)
    named = root or ("" if variable == "sample" else variable)
    folder = Path(named).expanduser() if named else DATA
    if named and not create and not folder.is_dir():
        raise FileNotFoundError(
            f"{'root' if root else VARIABLE}: there is no folder {str(folder)!r}; name "
            f"the one that holds {CIFAR10.base_folder}, {CIFAR10.filename} or train/"
        )
    return folder


def _folders(folder: Path) -> list[Path]:
    """The folders in a folder, by name, without hidden ones."""
    there = folder.iterdir() if folder.is_dir() else ()
    return sorted(p for p in there if p.name[0] != "." and p.is_dir())


# The official version


def _read_official(root: Path, is_train: bool) -> Images | None:
    """Read the unpacked version or an archive of it; None if there is neither."""
    folder = root / CIFAR10.base_folder
    # Browsers call it "cifar-10-python (1).tar.gz", Safari unpacks it to a .tar.
    archives = sorted(root.glob(CIFAR10.filename.replace(".tar.gz", "*.tar*")))
    paths = [folder] if folder.is_dir() else []
    paths += [path for path in archives if path.suffix in (".gz", ".tar")]
    for path in paths:
        files = _contents(path)
        bad = [
            name
            for name, md5 in (*CIFAR10.train_list, *CIFAR10.test_list)
            if hashlib.md5(files.get(name, b""), usedforsecurity=False).hexdigest()
            != md5
        ]
        if bad:
            continue
        names = CIFAR10.train_list if is_train else CIFAR10.test_list
        # A pickle can run any code, but these have the right md5.
        batches = [pickle.loads(files[n], encoding="latin1") for n, _ in names]
        X = np.concatenate([batch["data"] for batch in batches])
        X = X.reshape(-1, 3, SIDE, SIDE).transpose(0, 2, 3, 1)
        y = [label for batch in batches for label in batch["labels"]]
        source = Source("official", is_train, len(y), path)
        return _images(np.ascontiguousarray(X), y, source)
    if paths:
        raise ValueError(
            f"{path}: {', '.join(bad)}: missing, truncated or altered (the md5 is not "
            "CIFAR-10's); delete it and download it again: download=True (into data/: "
            "make cifar10)"
        )
    return None


def _contents(path: Path) -> dict[str, bytes]:
    """Files of a folder or an archive by name, as far as they can be read."""
    if path.is_dir():
        return {p.name: p.read_bytes() for p in path.iterdir() if p.is_file()}
    files, damage = {}, (EOFError, gzip.BadGzipFile, tarfile.TarError, zlib.error)
    with contextlib.suppress(*damage), tarfile.open(path) as archive:
        for member in filter(tarfile.TarInfo.isfile, archive):
            files[Path(member.name).name] = archive.extractfile(member).read()
    return files


def download_cifar10(root: str | os.PathLike, url: str | None = None) -> Path:
    """Download the official archive into `root`, and return its path."""
    folder = Path(root)
    with contextlib.suppress(OSError):
        folder.mkdir(parents=True, exist_ok=True)
    if not os.access(folder, os.W_OK) or not folder.is_dir():
        what = "cannot be written; name another folder in"
        raise PermissionError(f"{folder}: {what} {VARIABLE}")
    return fetch(url or CIFAR10.url, folder / CIFAR10.filename, CIFAR10.tgz_md5)


# Image files


def _read_files(root: Path, split: str) -> Images | None:
    """Read image files, in a fixed random order: the first n are of all classes."""
    table = root / "trainLabels.csv"
    flat = table.is_file() and (root / "train").is_dir()
    classes = [root / s / name for s in ("train", "test") for name in CLASSES]
    if not flat and not any(map(Path.is_dir, classes)):
        return None
    files = _competition_files(table) if flat else _class_files(root / split)
    files = [files[i] for i in np.random.default_rng(0).permutation(len(files))]
    endings = sorted({path.rpartition(".")[2].lower() for path, _ in files})
    detail = f" as a folder of images ({', '.join(endings)})"
    if flat:
        held = len(files) - len(files) // 5
        files = files[:held] if split == "train" else files[held:]
        detail = " of Kaggle's competition, a fifth held out for testing"
    y = [label for _, label in files]
    source = Source("folder", split == "train", len(y), root, detail)
    return _images(_decode(files), y, source)


def _class_files(folder: Path) -> list[tuple[str, int]]:
    """Path and label of every image below `folder`, class by class, by name."""
    labels = {name: label for label, name in enumerate(CLASSES)}
    wrong = ", ".join(p.name for p in _folders(folder) if p.name not in labels)
    try:
        if wrong:
            raise FileNotFoundError(f"{wrong}: not one of CIFAR-10's classes.")
        return ImageFolder.make_dataset(folder, labels, is_valid_file=_is_image)
    except FileNotFoundError as error:
        raise ValueError(
            f"{folder}: {str(error).strip()} It must have just these folders, of .png "
            f"or .jpg files: {', '.join(CLASSES)}"
        ) from error


def _is_image(path: str) -> bool:
    shown = not any(name.startswith(".") for name in Path(path).parts[-2:])
    return shown and path.lower().endswith((".png", ".jpg", ".jpeg"))


def _competition_files(table: Path) -> list[tuple[str, int]]:
    """Path and label of every image that trainLabels.csv names."""
    files = []
    try:
        with table.open(newline="", encoding="utf-8-sig") as lines:
            for row in csv.DictReader(lines):
                path = table.parent / "train" / f"{row['id']}.png"
                files.append((str(path), CLASSES.index(row["label"])))
                os.stat(path)
    except (KeyError, OSError, ValueError) as error:
        raise ValueError(
            f"{table}: expected an id and a label in each line, and its file in train/ "
            f"({type(error).__name__}: {error}); unpack Kaggle's archives again"
        ) from error
    return files


def _decode(files: list[tuple[str, int]]) -> np.ndarray:
    X = np.empty((len(files), SIDE, SIDE, 3), dtype=np.uint8)
    for i, (path, _) in enumerate(files):
        try:
            with Image.open(path) as img:
                if img.size != (SIDE, SIDE) or img.mode != "RGB":
                    raise ValueError(f"{img.width} x {img.height}, {img.mode}")
                X[i] = img
        except (OSError, SyntaxError, ValueError) as error:
            raise ValueError(
                f"{path}: expected an image of {SIDE} x {SIDE}, RGB ({error}); convert "
                "it, copy it again or delete it"
            ) from error
    return X


def main(argv: list[str] | None = None) -> int:
    print_any_name()
    parser = argparse.ArgumentParser(prog="d2lext.images", description=__doc__)
    parser.add_argument("--download", action="store_true", help="download CIFAR-10")
    parser.add_argument(
        "--root", type=Path, help="the folder of CIFAR-10 (default: data/)"
    )
    parser.add_argument("--url", help="address of the archive on a mirror")
    args = parser.parse_args(argv)
    try:
        if args.download and args.url:
            download_cifar10(_folder(args.root, create=True), args.url)
        for is_train in (True, False):
            print(read_cifar10(is_train, args.root, args.download).source)
    except (OSError, ValueError) as error:
        print(f"images: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
