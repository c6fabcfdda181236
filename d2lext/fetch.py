"""Download a large file from a server that may drop the connection."""

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
    """Download `path` from `url` (http:// or file://), unless it is there; return it.

    A broken download resumes where it stopped, as long as each attempt brings bytes,
    and also in a later call. One process downloads at a time. Raises ConnectionError if
    nothing more arrives, ValueError for a wrong md5; only a correct file gets its name.
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
                    f"try again to resume it, or put {path.name} into "
                    f"{path.parent}"
                ) from error
            if not check_integrity(part, md5):
                part.unlink()
                raise ValueError(
                    f"{url}: deleted a download that is not {path.name} (wrong md5); "
                    "try again, or use another mirror"
                )
        os.replace(part, path)
    return path


def _fetch_rest(url: str, part: Path) -> None:
    """Download what `part` lacks; raise if more may be missing afterwards."""
    start = part.stat().st_size
    # No range for a new file, since some servers refuse one.
    headers = {"Range": f"bytes={start}-"} if start else {}
    request = urllib.request.Request(url, headers=headers)
    try:
        answer = urllib.request.urlopen(request, timeout=TIMEOUT)
    except urllib.error.HTTPError as error:
        if error.code == http.client.REQUESTED_RANGE_NOT_SATISFIABLE:
            return  # nothing is missing, or the md5 will tell
        raise
    with answer, part.open("r+b") as file:
        # Overwrite, but do not truncate yet: this attempt may get less far.
        file.seek(start if answer.status == http.client.PARTIAL_CONTENT else 0)
        length = answer.headers["Content-Length"]
        total = file.tell() + int(length) if length else math.inf
        while chunk := answer.read(1 << 16):
            file.write(chunk)
            done = f"{part.stem}: {file.tell() / 1e6:.1f} of {total / 1e6:.1f} MB"
            print(done, end="\r", file=sys.stderr)
        if file.tell() < total and not getattr(answer, "chunked", False):
            raise ConnectionError("the connection broke")
        file.truncate()
