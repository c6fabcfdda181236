"""Finding, verifying, reading and downloading CIFAR-10, and what is refused."""

import gzip
import hashlib
import http.server
import os
import pickle
import subprocess
import sys
import tarfile
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.datasets import CIFAR10

import d2lext.images
from d2lext.fetch import fetch
from d2lext.images import CLASSES, VARIABLE, main, read_cifar10, read_sample
from tests.common import make_folder, rows

NAME, UNPACKED = CIFAR10.filename, CIFAR10.base_folder


@pytest.fixture(autouse=True)
def no_variable(monkeypatch):
    monkeypatch.delenv(VARIABLE, raising=False)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "data").mkdir()
    return tmp_path / "data"


# The bundled sample


def test_the_sample_stands_for_cifar10_and_holds_out_images(root, monkeypatch):
    monkeypatch.setenv(VARIABLE, "sample")
    splits = [read_cifar10(is_train, download=True) for is_train in (True, False)]
    splits.append(read_sample("val"))
    words = ("2,000 images for training", "1,000 images for testing", "for choosing")
    for (X, y, classes, source), part in zip(splits, words, strict=True):
        n = 2000 if source.is_train else 1000
        assert (X.shape, X.dtype, y.dtype) == ((n, 32, 32, 3), torch.uint8, torch.int64)
        assert y.bincount().tolist() == [n // 10] * 10 and classes == CLASSES
        assert source[:3] == ("sample", "training" in part, n)
        assert "the bundled sample, " in str(source) and part in str(source)
    train, test, val = ({x.numpy().tobytes() for x in X} for X, *_ in splits)
    assert not val & (train | test)
    narrow, test, val = (X.float().mean() for X, *_ in splits)  # darker: other light
    assert abs(val - test) < 3 < narrow - val
    assert "no CIFAR-10 in" not in str(splits[0].source)
    instead = read_cifar10(True, root).source
    assert instead.kind == "sample" and f"(no CIFAR-10 in {root})" in str(instead)


def test_a_root_that_is_given_goes_before_the_variable(folder, monkeypatch):
    monkeypatch.setenv(VARIABLE, "sample")
    assert len(read_cifar10(True, folder).y) == 20
    with pytest.raises(FileNotFoundError, match=r"root: there is no folder.*typo"):
        read_cifar10(True, folder / "typo")
    monkeypatch.setenv(VARIABLE, str(folder))
    assert len(read_cifar10(True).y) == 20
    monkeypatch.setenv(VARIABLE, str(folder / "gone"))
    with pytest.raises(FileNotFoundError, match=f"{VARIABLE}: there is no.*gone"):
        read_cifar10(True)


# Image files


def image(value: int, size=(32, 32), mode="RGB") -> Image.Image:
    return Image.new(mode, size, (value,) * 3 if mode == "RGB" else value)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return make_folder(tmp_path / "images", 2, 2)


def values(root: Path, is_train: bool = True) -> list[tuple[int, int]]:
    X, y, _, _ = read_cifar10(is_train, root)
    assert X.device.type == y.device.type == "cpu"
    return sorted(zip(y.tolist(), X[:, 0, 0, 0].tolist(), strict=True))


ALL = [(label, 10 * label + n) for label in range(10) for n in range(2)]


def test_a_folder_of_images_is_read_in_a_mixed_order(folder):
    first = read_cifar10(True, folder)
    assert str(first.source).startswith("CIFAR-10 as a folder of images (png), 20 ima")
    assert first.y.tolist() != sorted(first.y.tolist())
    assert torch.equal(first.X, read_cifar10(True, folder).X)
    with torch.device("meta"):  # a default device changes nothing
        assert values(folder) == values(folder, is_train=False) == ALL


def test_jpegs_and_hidden_files_and_other_endings(folder):
    image(7).save(folder / "train/frog/x.JPG", quality=100)
    (folder / "train/frog/._x.jpg").write_bytes(b"left by a Mac")
    (folder / "train/frog/Thumbs.db").write_bytes(b"left by Windows")
    for path in ("train/.ipynb_checkpoints", "train/frog/.ipynb_checkpoints"):
        (folder / path).mkdir()
        image(0).save(folder / path / "x.png")
    assert values(folder) == sorted([*ALL, (6, 7)])
    assert "(jpg, png)" in str(read_cifar10(True, folder).source)


# What is done to a folder of images, and what is said of it.
BROKEN = r"""
(train / "deer").rename(root / "deer")         | train: .*deer
[*map(os.remove, (train / "deer").iterdir())]  | train: .*deer\..*just these folders
(train / "moose").mkdir()                      | train: moose: not one of
image(1, (1, 1)).save(cat)                     | 0\.png: .* \(1 x 1, RGB\); convert
image(1, mode="L").save(cat)                   | 0\.png: .* \(32 x 32, L\); convert
cat.write_bytes(b"hello")                      | 0\.png: expected an .*copy it again
os.truncate(cat, 60)                           | 0\.png: expected an .*copy it again
train.rename(root / "training")                | train: .*airplane, automobile
[p.rename(f"{p}s") for p in root.glob("t*/*")] | need these folders: airplane
"""


@rows("code words", BROKEN)
def test_a_folder_that_is_not_cifar10_is_refused_by_name(folder, code, words):
    train, cat = folder / "train", folder / "train/cat/0.png"
    eval(code, globals(), {"root": folder, "train": train, "cat": cat})
    with pytest.raises(ValueError, match=words):
        read_cifar10(True, folder)
    assert not list(folder.glob("cifar*"))


def test_kaggles_competition_is_read_and_a_fifth_held_out(root):
    """Flat, labels in a table, and test images that nobody may label."""
    for split in ("train", "test"):
        (root / split).mkdir()
        for n in range(1, 51):
            image(n).save(root / split / f"{n}.png")
    lines = [f"{n},{CLASSES[n % 10]}" for n in range(1, 51)]
    (root / "trainLabels.csv").write_text("\n".join(["id,label", *lines, ""]))
    halves = [values(root, is_train) for is_train in (True, False)]
    assert [len(half) for half in halves] == [40, 10]
    assert sorted(halves[0] + halves[1]) == sorted((n % 10, n) for n in range(1, 51))
    assert "Kaggle's competition, a fifth" in str(read_cifar10(True, root).source)
    (root / "train/7.png").unlink()
    with pytest.raises(ValueError, match=r"trainLabels\.csv: .*7\.png.*unpack"):
        read_cifar10(True, root)
    (root / "trainLabels.csv").write_text("id,label\n1,moose\n")
    with pytest.raises(ValueError, match=r"trainLabels\.csv: expected an id and a la"):
        read_cifar10(True, root)


UNREAD = r"""
cifar-10-batches-py/data_batch_1         | its parent folder, .*data$
train/airplane/1.png                     | its parent folder, .*data$
train-00000-of-00001.parquet             | parquet files.*tar.gz
plain_text/test.parquet                  | parquet files.*tar.gz
cifar-10-batches-bin/data_batch_1.bin    | binary files.*tar.gz
cifar-10-binary.tar.gz                   | binary files.*tar.gz
cifar-10-matlab.tar.gz                   | Matlab files.*tar.gz
train.7z                                 | unpack its train\.7z
"""


@rows("name words", UNREAD)
def test_what_is_not_read_is_named_with_what_to_do(root, name, words):
    (root / name).parent.mkdir(parents=True, exist_ok=True)
    (root / name).touch()
    deep = name.split("/")[0] if words.startswith("its parent") else ""
    with pytest.raises(ValueError, match=words):
        read_cifar10(True, root / deep)


# The official version, with a small stand-in of ten images to a batch


def md5(data: bytes) -> str:
    return hashlib.md5(data, usedforsecurity=False).hexdigest()


def pixels(n: int) -> np.ndarray:
    rng = np.random.default_rng(n)
    return rng.integers(0, 256, (10, 3072), dtype=np.uint8)


@pytest.fixture
def mirror(tmp_path: Path, monkeypatch) -> Path:
    """A folder that has it as an archive and unpacked."""
    base = tmp_path / "mirror" / UNPACKED
    base.mkdir(parents=True)
    lists = {"train_list": [], "test_list": []}
    for n, (name, _) in enumerate(CIFAR10.train_list + CIFAR10.test_list):
        content = pickle.dumps({"data": pixels(n), "labels": list(range(10))})
        (base / name).write_bytes(content)
        lists["train_list" if n < 5 else "test_list"].append([name, md5(content)])
    archive = base.parent / NAME
    with tarfile.open(archive, "w:gz") as tar:
        tar.add(base, base.name)
    small = lists | {"tgz_md5": md5(archive.read_bytes()), "url": "http://127.0.0.1:9"}
    monkeypatch.setattr(d2lext.images, "CIFAR10", type("Small", (CIFAR10,), small))
    return base.parent


@pytest.mark.parametrize(("is_train", "n"), [(True, 50), (False, 10)])
def test_the_unpacked_version_is_read(mirror, is_train, n):
    (mirror / NAME).unlink()
    X, y, classes, source = read_cifar10(is_train, mirror)
    wanted = np.concatenate(list(map(pixels, range(5) if is_train else [5])))
    assert np.array_equal(X.permute(0, 3, 1, 2).flatten(1), wanted)
    assert (X.shape, X.dtype, y.dtype) == ((n, 32, 32, 3), torch.uint8, torch.int64)
    assert y.tolist() == list(range(10)) * (n // 10) and classes == CLASSES
    assert source == ("official", is_train, n, mirror / UNPACKED, "")
    assert f"official version, {n} images" in str(source)


FORMS = {
    "Chrome": "cifar-10-python (1).tar.gz",
    "Firefox": "cifar-10-python.tar(1).gz",
    "Safari": "cifar-10-python.tar",
    "deeper": f"downloads/{NAME}",
    "beside half of one": NAME,
    "over half a folder": f"./{NAME}",
}


@pytest.mark.parametrize("name", FORMS.values(), ids=FORMS)
def test_the_archive_is_found_however_it_came(root, mirror, name):
    data = (mirror / NAME).read_bytes()
    (root / name).parent.mkdir(exist_ok=True)
    (root / name).write_bytes(gzip.decompress(data) if name.endswith(".tar") else data)
    (root / "cifar-10-python.tar.gz.part").touch()
    if name == FORMS["over half a folder"]:
        (mirror / UNPACKED).rename(root / UNPACKED)
        (root / UNPACKED / "data_batch_2").write_bytes(b"half")
    if name == NAME:
        (root / "cifar-10-python (0).tar.gz").write_bytes(data[:-100])
    found = read_cifar10(False, root)
    assert len(found.y) == 10 and found.source.folder == root / name


@pytest.mark.parametrize("name", ["data_batch_3", "test_batch"])
@pytest.mark.parametrize("packed", [True, False])
def test_an_altered_batch_is_named_and_never_unpickled(root, mirror, name, packed):
    unpickled = root.parent / "unpickled"
    call = f"cos\nmkdir\n(V{unpickled}\ntR."  # a pickle of os.mkdir(unpickled)
    (mirror / UNPACKED / name).write_text(call)
    if packed:
        with tarfile.open(root / NAME, "w:gz") as tar:
            tar.add(mirror / UNPACKED, UNPACKED)
    else:
        (mirror / UNPACKED).rename(root / UNPACKED)
    for is_train in (True, False):
        with pytest.raises(ValueError, match=rf"{name}: missing.*make cifar10"):
            read_cifar10(is_train, root)
    assert not unpickled.exists()
    assert len(list(root.iterdir())) == 1  # nothing of it was unpacked


@pytest.mark.parametrize(
    "damage", [lambda x: x[:-100], lambda x: x[:99] + x[100:], lambda x: b"<html>"]
)
def test_a_bad_archive_is_named_and_not_unpacked(root, mirror, damage):
    (root / NAME).write_bytes(damage((mirror / NAME).read_bytes()))
    with pytest.raises(ValueError, match=r"tar\.gz: .*truncated or altered.*delete it"):
        read_cifar10(True, root)
    assert [p.name for p in root.iterdir()] == [NAME]


# The download, from a server that breaks off


@pytest.fixture
def server(mirror: Path):
    """A server of the archive; `drop` answers break off halfway, `asked` is a log."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            first = self.headers.get("Range")
            self.server.asked.append(first)
            start = int(first[6:-1]) if first and self.server.ranges else 0
            data = self.server.data[start:]
            if not data:
                self.send_error(416)
                return
            self.send_response(206 if start else 200)
            if self.server.says_length:
                self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            if self.server.drop:
                self.server.drop -= 1
                data = data[: len(data) // 2]
            self.wfile.write(data)

        def log_message(self, *args):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.data = (mirror / NAME).read_bytes()
        server.md5 = md5(server.data)
        server.asked, server.drop, server.ranges, server.says_length = [], 0, True, True
        server.url = f"http://127.0.0.1:{server.server_port}/{NAME}"
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


@pytest.mark.parametrize("there", [None, b"half"])
def test_download_only_when_asked(root, mirror, server, there):
    assert read_cifar10(True, root).source.kind == "sample" and server.asked == []
    if there:
        (root / NAME).write_bytes(there)
    d2lext.images.CIFAR10.url = (mirror / NAME).as_uri() if there else server.url
    assert len(read_cifar10(True, root, download=True).y) == 50
    assert len(read_cifar10(False, root, download=True).y) == 10
    assert server.asked == ([] if there else [None])


@pytest.mark.parametrize("says_length", [True, False])
def test_a_broken_download_goes_on_where_it_stopped(root, server, says_length, capsys):
    server.drop, server.says_length = 2, says_length
    path = fetch(server.url, root / NAME, server.md5)
    n = len(server.data)
    assert path.read_bytes() == server.data
    assert server.asked == [None, f"bytes={n // 2}-", f"bytes={n // 2 + (n + 1) // 4}-"]
    assert not list(root.glob("*.part"))
    assert (f"of {n / 1e6:.1f} MB" in capsys.readouterr().err) == says_length


@pytest.mark.parametrize("says_length", [True, False])
def test_a_server_that_breaks_off_takes_nothing_away(root, server, says_length):
    server.drop, server.ranges, server.says_length = 9, False, says_length
    (part := root / f"{NAME}.part").write_bytes(server.data[:-10])
    with pytest.raises(ConnectionError, match=r"127\.0\.0\.1.*try again to resume"):
        fetch(server.url, root / NAME, server.md5)
    assert part.read_bytes() == server.data[:-10]


@pytest.mark.parametrize("ranges", [True, False])
@pytest.mark.parametrize("kept", [1000, None])
def test_a_download_goes_on_after_a_restart(root, server, ranges, kept):
    server.ranges = ranges
    (part := root / f"{NAME}.part").write_bytes(server.data[:kept])
    fetch(server.url, root / NAME, server.md5)
    assert server.asked == (["bytes=1000-"] if kept else [])
    assert (root / NAME).read_bytes() == server.data
    assert not part.exists()


def test_of_several_downloads_at_once_one_does_the_work(root, server):
    server.drop = 3  # so that it takes a while, and leaves a part meanwhile
    with ThreadPoolExecutor(4) as pool:
        for _ in range(4):
            pool.submit(fetch, server.url, root / NAME, server.md5)
    assert (root / NAME).read_bytes() == server.data
    assert len(server.asked) == 4  # one, broken off three times


@pytest.mark.parametrize("left", [b"", b"from another server" * 9])
def test_a_download_of_something_else_is_deleted(root, server, left):
    server.data = b"<html>log in to the hotel's network</html>"
    (root / f"{NAME}.part").write_bytes(left)
    with pytest.raises(ValueError, match="wrong md5"):
        fetch(server.url, root / NAME, server.md5)
    assert {p.suffix for p in root.iterdir()} <= {".lock"}


def test_the_command_says_what_there_is(folder, root, server, capsys, monkeypatch):
    assert main(["--root", str(folder)]) == 0
    assert capsys.readouterr().out.count("folder of images") == 2
    server.data = b"something else"
    assert main(["--download", "--root", str(root), "--url", server.url]) == 1
    assert "wrong md5" in capsys.readouterr().err
    (root / "file").touch()  # in it no folder can be made
    assert main(["--download", "--root", str(root / "file/data")]) == 1
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    assert main(["--download", "--root", str(root)]) == 1
    words = f"cannot be written; name another folder in {VARIABLE}"
    assert capsys.readouterr().err.count(words) == 2


MAINS = """
import os, sys
from d2lext import __main__, images, train
from d2lext.course import answers, doctor
for module in images, doctor, answers, train, __main__:
    sys.stdout.reconfigure(errors="strict")
    try:
        module.main([] if module in (images, doctor) else ["--help"])
    except SystemExit as end:
        assert not end.code, module
    assert sys.stdout.errors == sys.stderr.errors == "backslashreplace", module
    if module is images:
        os.rmdir(os.environ["D2LEXT_CIFAR10"])  # the doctor names it
"""


def test_a_console_that_cannot_print_a_folders_name(tmp_path) -> None:
    """No command stops there, the name is printed with escapes."""
    folder = tmp_path / "图像"
    folder.mkdir()
    told = subprocess.run(
        [sys.executable, "-c", MAINS],
        capture_output=True,
        text=True,
        env=os.environ | {"PYTHONIOENCODING": "cp1252", VARIABLE: str(folder)},
    )
    assert told.returncode == 0, told.stderr
    assert told.stdout.count(r"\u56fe\u50cf") >= 2  # of images and of doctor
