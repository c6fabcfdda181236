"""Finding, verifying, caching and downloading CIFAR-10, and what is refused."""

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

from d2lext.images import CLASSES, VARIABLE, download_cifar10, main, read_cifar10


@pytest.fixture(autouse=True)
def no_variable(monkeypatch):
    monkeypatch.delenv(VARIABLE, raising=False)


# The bundled sample


@pytest.mark.parametrize(("is_train", "n"), [(True, 2000), (False, 1000)])
def test_the_sample_has_cifar10s_shape_and_classes(is_train, n, monkeypatch):
    monkeypatch.setenv(VARIABLE, "sample")
    X, y, classes, source = read_cifar10(is_train, download=True)
    assert (X.shape, X.dtype) == ((n, 32, 32, 3), torch.uint8)
    assert y.dtype == torch.int64
    assert y.bincount().tolist() == [n // 10] * 10
    assert classes == CLASSES
    assert "sample" in source
    assert "\n" not in source


def test_a_folder_without_data_gives_the_sample_and_says_so(tmp_path):
    pictures = read_cifar10(True, tmp_path)
    assert f"no CIFAR-10 in {tmp_path}" in pictures.source


def test_a_folder_one_level_too_deep_is_found_out(folder, tmp_path):
    unpacked = tmp_path / "cifar-10-batches-py"
    unpacked.mkdir()
    (unpacked / "data_batch_1").touch()
    for deep in (folder / "train", unpacked):
        with pytest.raises(ValueError, match=f"the folder above it, {deep.parent}$"):
            read_cifar10(True, deep)


def test_a_root_that_is_given_goes_before_the_variable(folder, monkeypatch):
    monkeypatch.setenv(VARIABLE, "sample")
    assert len(read_cifar10(True, folder).y) == 20
    monkeypatch.setenv(VARIABLE, str(folder))
    assert len(read_cifar10(True).y) == 20


def test_a_folder_that_is_not_there_is_named(tmp_path, monkeypatch):
    with pytest.raises(FileNotFoundError, match=r"root: there is no folder.*typo"):
        read_cifar10(True, tmp_path / "typo")
    monkeypatch.setenv(VARIABLE, str(tmp_path / "gone"))
    with pytest.raises(FileNotFoundError, match=f"{VARIABLE}: there is no.*gone"):
        read_cifar10(True)


# A folder of images


def picture(value: int, size=(32, 32), mode="RGB") -> Image.Image:
    return Image.new(mode, size, (value,) * 3 if mode == "RGB" else value)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two pictures of each class and split, filled with 10 * label + number."""
    root = tmp_path / "pictures"
    for split in ("train", "test"):
        for label, name in enumerate(CLASSES):
            (root / split / name).mkdir(parents=True)
            for n in range(2):
                picture(10 * label + n).save(root / split / name / f"{n}.png")
    return root


def values(root: Path, is_train: bool = True) -> list[tuple[int, int]]:
    X, y, _, _ = read_cifar10(is_train, root)
    return sorted(zip(y.tolist(), X[:, 0, 0, 0].tolist(), strict=True))


ALL = [(label, 10 * label + n) for label in range(10) for n in range(2)]


def test_a_folder_of_pictures_is_read_and_then_taken_from_its_cache(folder):
    first = read_cifar10(True, folder)
    assert (folder / "cifar-10-train.npz").is_file()
    again = read_cifar10(True, folder)
    assert torch.equal(first.X, again.X)
    assert torch.equal(first.y, again.y)
    assert values(folder) == ALL
    assert first.y.tolist() != sorted(first.y.tolist())  # mixed
    assert not list(folder.glob("*.part"))
    assert values(folder, is_train=False) == ALL


def test_jpegs_and_hidden_files_and_other_endings(folder):
    picture(7).save(folder / "train/frog/x.JPG", quality=100)
    (folder / "train/frog/._x.jpg").write_bytes(b"left by a Mac")
    (folder / "train/frog/Thumbs.db").write_bytes(b"left by Windows")
    (folder / "train/.ipynb_checkpoints").mkdir()
    assert values(folder) == sorted([*ALL, (6, 7)])


def test_the_cache_follows_the_files(folder):
    assert values(folder) == ALL
    changed = folder / "train/cat/0.png"
    picture(99).save(changed)
    os.utime(changed, ns=(1, 1))
    assert (3, 99) in values(folder)
    changed.rename(folder / "train/dog/new.png")
    assert (5, 99) in values(folder)
    (folder / "train/dog/new.png").unlink()
    assert values(folder) == [pair for pair in ALL if pair != (3, 30)]


@pytest.mark.parametrize("keep", [0, 1, 100, -40])
def test_half_a_cache_is_not_trusted(folder, keep):
    assert values(folder) == ALL
    cache = folder / "cifar-10-train.npz"
    cache.write_bytes(cache.read_bytes()[:keep])
    assert values(folder) == ALL


def test_a_cache_with_a_pickle_is_not_loaded(folder):
    class Bomb:
        def __reduce__(self):
            return print, ("unpickled",)

    objects = np.array([Bomb()], dtype=object)
    np.savez(folder / "cifar-10-train.npz", key=objects, X=objects, y=objects)
    assert values(folder) == ALL


def test_no_room_for_a_cache_gives_a_note(folder, capsys):
    # A folder where the file should be, since root may write to read-only folders.
    (folder / "cifar-10-train.npz").mkdir()
    assert values(folder) == ALL
    assert "were not kept in" in capsys.readouterr().err
    assert not list(folder.glob("*.part"))


def test_two_processes_make_the_cache_at_once(folder):
    code = (
        "import sys; from d2lext.images import read_cifar10; "
        "sys.stdin.readline(); "
        "p = read_cifar10(True, sys.argv[1]); print(int(p.X.sum()), int(p.y.sum()))"
    )
    command = [sys.executable, "-c", code, str(folder)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    running = [subprocess.Popen(command, **pipes) for _ in range(2)]
    for process in running:
        process.stdin.write("go\n")
        process.stdin.flush()
    said = {process.communicate(timeout=120)[0] for process in running}
    X, y, _, _ = read_cifar10(True, folder)
    assert said == {f"{int(X.sum())} {int(y.sum())}\n"}
    assert [p.name for p in folder.glob("cifar*")] == ["cifar-10-train.npz"]


def remove(root: Path) -> None:
    for path in (root / "train/deer").iterdir():
        path.unlink()
    (root / "train/deer").rmdir()


def empty(root: Path) -> None:
    for path in (root / "train/deer").iterdir():
        path.unlink()


def cut(root: Path) -> None:
    path = root / "train/ship/1.png"
    Image.effect_noise((32, 32), 90).convert("RGB").save(path)
    path.write_bytes(path.read_bytes()[:300])


BROKEN = {
    "missing": (remove, r"train: class folder deer: missing"),
    "empty": (empty, r"deer: no picture"),
    "extra": (
        lambda root: (root / "train/moose").mkdir(),
        r"class folder moose: not one of",
    ),
    "size": (
        lambda root: picture(1, (28, 28)).save(root / "train/cat/0.png"),
        r"0\.png: expected a picture of 32 x 32, RGB, got 28 x 28, RGB; convert",
    ),
    "mode": (
        lambda root: picture(1, mode="L").save(root / "train/cat/0.png"),
        r"0\.png: expected .* got 32 x 32, L; convert",
    ),
    "no picture": (
        lambda root: (root / "train/cat/0.png").write_bytes(b"hello"),
        r"0\.png: this picture cannot be read .*copy it again",
    ),
    "truncated": (cut, r"1\.png: this picture cannot be read .*copy it again"),
    "no split": (
        lambda root: (root / "train").rename(root / "training"),
        r"train: this folder is missing",
    ),
}


@pytest.mark.parametrize(("break_it", "words"), BROKEN.values(), ids=BROKEN)
def test_a_folder_that_is_not_cifar10_is_refused_by_name(folder, break_it, words):
    break_it(folder)
    with pytest.raises(ValueError, match=words):
        read_cifar10(True, folder)
    assert not list(folder.glob("cifar*"))


# The official version, with a small stand-in of ten pictures to a batch


def md5(data: bytes) -> str:
    return hashlib.md5(data, usedforsecurity=False).hexdigest()


@pytest.fixture
def official(tmp_path: Path) -> type[CIFAR10]:
    """A class like torchvision's, its archive in tmp_path/mirror."""
    base = tmp_path / "mirror" / CIFAR10.base_folder
    base.mkdir(parents=True)
    sums = {}
    for n, name in enumerate([*(f"data_batch_{i}" for i in range(1, 6)), "test_batch"]):
        data = np.random.default_rng(n).integers(0, 256, (10, 3072), dtype=np.uint8)
        content = {"data": data, "labels": list(range(10))}
        sums[name] = content
    sums["batches.meta"] = {"label_names": list(CLASSES)}
    for name, content in sums.items():
        (base / name).write_bytes(pickle.dumps(content))
        sums[name] = md5((base / name).read_bytes())
    archive = base.parent / CIFAR10.filename
    with tarfile.open(archive, "w:gz") as tar:
        tar.add(base, base.name)

    class Small(CIFAR10):
        url = "http://127.0.0.1:9/nothing-there"
        tgz_md5 = md5(archive.read_bytes())
        meta = CIFAR10.meta | {"md5": sums["batches.meta"]}

    Small.train_list = [[name, sums[name]] for name, _ in CIFAR10.train_list]
    Small.test_list = [[name, sums[name]] for name, _ in CIFAR10.test_list]
    return Small


@pytest.fixture
def mirror(tmp_path: Path, official) -> Path:
    return tmp_path / "mirror"


@pytest.mark.parametrize(("is_train", "n"), [(True, 50), (False, 10)])
def test_the_unpacked_version_is_read(mirror, official, is_train, n):
    (mirror / CIFAR10.filename).unlink()
    X, y, classes, source = read_cifar10(is_train, mirror, official=official)
    assert (X.shape, X.dtype, y.dtype) == ((n, 32, 32, 3), torch.uint8, torch.int64)
    rng = np.random.default_rng(0 if is_train else 5)
    wanted = rng.integers(0, 256, (10, 3072), dtype=np.uint8)
    assert np.array_equal(X[0].permute(2, 0, 1).flatten(), wanted[0])
    assert classes == CLASSES
    assert "official" in source


def test_the_archive_is_unpacked_beside_itself(tmp_path, mirror, official):
    root = tmp_path / "data"
    root.mkdir()
    (mirror / CIFAR10.filename).rename(root / CIFAR10.filename)
    first = read_cifar10(True, root, official=official)
    assert sorted(p.name for p in root.iterdir()) == [
        CIFAR10.base_folder,
        CIFAR10.filename,
    ]
    (root / CIFAR10.filename).unlink()
    assert torch.equal(first.X, read_cifar10(True, root, official=official).X)


def test_an_archive_where_nothing_can_be_written_is_read_all_the_same(
    tmp_path, mirror, official, capsys
):
    root = tmp_path / "data"
    root.mkdir()
    (mirror / CIFAR10.filename).rename(root / CIFAR10.filename)
    (root / CIFAR10.base_folder).write_text("a file in the place of the folder")
    assert len(read_cifar10(True, root, official=official).y) == 50
    assert "unpacked for this time only" in capsys.readouterr().err


def test_half_an_unpacked_folder_is_mended_from_the_archive(mirror, official):
    batch = mirror / CIFAR10.base_folder / "data_batch_2"
    batch.write_bytes(batch.read_bytes()[:100])
    assert len(read_cifar10(True, mirror, official=official).y) == 50
    (mirror / CIFAR10.filename).unlink()
    assert len(read_cifar10(True, mirror, official=official).y) == 50


class Touch:
    """Unpickled, it makes a file."""

    def __init__(self, path: str):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (self.path,)


@pytest.mark.parametrize("name", ["data_batch_3", "test_batch", "batches.meta"])
def test_an_altered_batch_is_named_and_never_unpickled(
    tmp_path, mirror, official, name
):
    (mirror / CIFAR10.filename).unlink()
    traces = tmp_path / "unpickled"
    altered = pickle.dumps(Touch(str(traces)))
    (mirror / CIFAR10.base_folder / name).write_bytes(altered)
    with pytest.raises(ValueError, match=rf"{name}: missing, truncated.*make cifar10"):
        read_cifar10(True, mirror, official=official)
    assert not traces.exists()


@pytest.mark.parametrize("how", ["truncated", "altered"])
def test_a_bad_archive_is_named_and_not_unpacked(tmp_path, mirror, official, how):
    root = tmp_path / "data"
    root.mkdir()
    data = (mirror / CIFAR10.filename).read_bytes()
    data = data[:-100] if how == "truncated" else data[:-1] + b"x"
    (root / CIFAR10.filename).write_bytes(data)
    with pytest.raises(ValueError, match=r"tar\.gz: truncated or altered.*delete it"):
        read_cifar10(True, root, official=official)
    assert [p.name for p in root.iterdir()] == [CIFAR10.filename]


# The download, from a server that breaks off


@pytest.fixture
def server(mirror: Path):
    """A server of the archive; `drop` answers break off halfway, `asked` is a log."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            data = self.server.data
            first = self.headers.get("Range")
            self.server.asked.append(first)
            start = int(first[6:-1]) if first and self.server.ranges else 0
            if start and start >= len(data):
                self.send_error(416)
                return
            self.send_response(206 if start else 200)
            self.send_header("Content-Length", str(len(data) - start))
            self.end_headers()
            end = len(data)
            if self.server.drop:
                self.server.drop -= 1
                end = start + (len(data) - start) // 2
            self.wfile.write(data[start:end])

        def log_message(self, *args):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.data = (mirror / CIFAR10.filename).read_bytes()
        server.asked, server.drop, server.ranges = [], 0, True
        server.url = f"http://127.0.0.1:{server.server_port}/{CIFAR10.filename}"
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


def test_download_only_when_asked(tmp_path, official, server):
    official.url = server.url
    root = tmp_path / "new" / "data"
    root.mkdir(parents=True)
    assert "sample" in read_cifar10(True, root, official=official).source
    assert server.asked == []
    assert len(read_cifar10(True, root, download=True, official=official).y) == 50
    assert len(read_cifar10(False, root, download=True, official=official).y) == 10
    assert server.asked == [None]


def test_a_broken_download_goes_on_where_it_stopped(tmp_path, official, server, capsys):
    server.drop = 2
    archive = download_cifar10(tmp_path / "data", server.url, official)
    n = len(server.data)
    assert archive.read_bytes() == server.data
    assert server.asked == [None, f"bytes={n // 2}-", f"bytes={n // 2 + (n + 1) // 4}-"]
    assert not list(archive.parent.glob("*.part"))
    assert f"{n / 1e6:.1f} MB" in capsys.readouterr().err


@pytest.mark.parametrize("ranges", [True, False])
def test_a_download_goes_on_after_a_restart(tmp_path, official, server, ranges):
    server.ranges = ranges
    part = tmp_path / f"{CIFAR10.filename}.part"
    part.write_bytes(server.data[:1000])
    download_cifar10(tmp_path, server.url, official)
    assert server.asked == ["bytes=1000-"]
    assert (tmp_path / CIFAR10.filename).read_bytes() == server.data
    assert not part.exists()


def test_of_several_downloads_at_once_one_does_the_work(tmp_path, official, server):
    server.drop = 3  # so that it takes a while, and leaves a part meanwhile
    with ThreadPoolExecutor(4) as pool:
        every = [
            pool.submit(download_cifar10, tmp_path, server.url, official)
            for _ in range(4)
        ]
        assert {e.result() for e in every} == {tmp_path / CIFAR10.filename}
    assert (tmp_path / CIFAR10.filename).read_bytes() == server.data
    assert len(server.asked) == 4  # one, broken off three times


def test_a_download_that_was_complete_but_not_renamed(tmp_path, official, server):
    (tmp_path / f"{CIFAR10.filename}.part").write_bytes(server.data)
    download_cifar10(tmp_path, server.url, official)
    assert (tmp_path / CIFAR10.filename).read_bytes() == server.data


def test_no_server_is_named_and_what_came_is_kept(tmp_path, official):
    part = tmp_path / f"{CIFAR10.filename}.part"
    part.write_bytes(b"some")
    with pytest.raises(ConnectionError, match=r"127\.0\.0\.1.*try again to go on"):
        download_cifar10(tmp_path, official=official)
    assert part.read_bytes() == b"some"
    assert "sample" in read_cifar10(True, tmp_path, official=official).source


def test_a_download_of_something_else_is_deleted(tmp_path, official, server):
    server.data = b"<html>log in to the hotel's network</html>"
    with pytest.raises(ValueError, match="wrong md5"):
        download_cifar10(tmp_path / "data", server.url, official)
    assert [p.suffix for p in (tmp_path / "data").iterdir()] in ([], [".lock"])


def test_a_bad_archive_is_replaced_when_asked(tmp_path, official, server):
    official.url = server.url
    (tmp_path / CIFAR10.filename).write_bytes(b"half")
    assert len(read_cifar10(True, tmp_path, download=True, official=official).y) == 50


def test_the_command_says_what_there_is(folder, tmp_path, server, capsys):
    assert main(["--root", str(folder)]) == 0
    assert capsys.readouterr().out.count("folder of images") == 2
    server.data = b"not CIFAR-10"
    root = str(tmp_path / "data")
    assert main(["--download", "--root", root, "--url", server.url]) == 1
    assert "wrong md5" in capsys.readouterr().err
