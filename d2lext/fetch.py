"""Fetch a file that is large, from a server that may break off."""

import http.client
import math
import os
import sys
import urllib.error
import urllib.request
from pathlib import Path

from filelock import FileLock
from torchvision.datasets.utils import check_integrity

TIMEOUT = 30  # seconds without a byte


def fetch(url: str, path: Path, md5: str) -> Path:
    """Fetch `path` from `url` (http:// or file://), unless it is there; return it.

    A download that broke off goes on where it stopped, as long as each try brings
    something, and also when this is called again. One process does it at a time.
    Raises ConnectionError if nothing more comes, ValueError if the md5 is wrong; the
    file gets its name only if it is right.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f"{path.name}.part")
    with FileLock(f"{path}.lock"):
        if check_integrity(path, md5):  # fetched by another process meanwhile
            return path
        part.touch()
        while not check_integrity(part, md5):
            had = part.stat().st_size
            try:
                _fetch_rest(url, part)
            except (OSError, http.client.HTTPException) as error:
                if part.stat().st_size > had:
                    continue
                raise ConnectionError(
                    f"{url}: the download stopped after {had / 1e6:.1f} MB ({error}); "
                    f"try again to go on from there, or put {path.name} into "
                    f"{path.parent}"
                ) from error
            if not check_integrity(part, md5):
                part.unlink()
                raise ValueError(
                    f"{url}: what came is not {path.name} (wrong md5) and was deleted; "
                    "try again, or use another mirror"
                )
        os.replace(part, path)
    return path


def _fetch_rest(url: str, part: Path) -> None:
    """Add to `part` what is missing of it; raise if that may not be all."""
    start = part.stat().st_size
    # Without a range at first, since some servers refuse one.
    headers = {"Range": f"bytes={start}-"} if start else {}
    request = urllib.request.Request(url, headers=headers)
    try:
        answer = urllib.request.urlopen(request, timeout=TIMEOUT)
    except urllib.error.HTTPError as error:
        if error.code == http.client.REQUESTED_RANGE_NOT_SATISFIABLE:
            return  # nothing is missing, or the md5 will tell
        raise
    with answer, part.open("r+b") as file:
        # What is there is written over, not cut off, since this may break off sooner.
        file.seek(start if answer.status == http.client.PARTIAL_CONTENT else 0)
        length = answer.headers["Content-Length"]
        total = file.tell() + int(length) if length else math.inf
        while chunk := answer.read(1 << 16):
            file.write(chunk)
            done = f"{part.stem}: {file.tell() / 1e6:.1f} of {total / 1e6:.1f} MB"
            print(done, end="\r", file=sys.stderr)
        if file.tell() < total and not getattr(answer, "chunked", False):
            raise ConnectionError("it broke off")
        file.truncate()
