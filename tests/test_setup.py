"""`make setup`: what it does the second time, and its one line when it cannot."""

import contextlib
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
FILES = ["tools/setup.sh", "Makefile", "pyproject.toml", "requirements.lock"]

pytestmark = pytest.mark.skipif(
    shutil.which("make") is None or os.name != "posix", reason="needs make and sh"
)

# A Python that says it is 3.12.1 and makes a .venv of two stubs, which write down how
# they are called. `ensurepip` and `uv` are what those two do, in shell.
FAKE_PYTHON = """#!/bin/sh
case "$*" in
*_base_executable*) echo 3.12.1; echo "$0"; exit ;;
"-c "*) echo 3.12; exit ;;
"-m venv "*) {venv} ;;
esac
mkdir -p .venv/bin
cat >.venv/bin/python <<'END'
#!/bin/sh
case "$*" in
"-c "*) echo {version} ;;
"-m ensurepip"*) echo "python $*" >>calls; {ensurepip} ;;
*) echo "python $*" >>calls ;;
esac
END
cat >.venv/bin/uv <<'END'
#!/bin/sh
echo "uv $*" >>calls
{uv}
END
chmod +x .venv/bin/python .venv/bin/uv
"""
# This Python, which takes itself for the last one that is too old.
OLD_PYTHON = f"""#!/bin/sh
exec '{sys.executable}' -c "import sys; sys.version_info = (3, 10, 13)
$2"
"""


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """What setting up reads, in a folder with a space and letters beyond Latin."""
    folder = tmp_path / "kurs 课程"
    copy_to(folder)
    return folder


def copy_to(folder: Path) -> None:
    folder.mkdir(exist_ok=True)
    for name in FILES:
        (folder / name).parent.mkdir(exist_ok=True)
        shutil.copy(ROOT / name, folder / name)


def script(path: Path, text: str) -> Path:
    path.parent.mkdir(exist_ok=True)
    path.write_text(text)
    path.chmod(0o755)
    return path


def fake_python(clone: Path, **does: str) -> str:
    """A stand-in interpreter, and what its parts do if they are not to succeed."""
    text = FAKE_PYTHON.format(
        **{"venv": ":", "ensurepip": ":", "uv": ":", "version": "3.12"} | does
    )
    return str(script(clone / "stubs" / "python3", text))


def make(clone: Path, *words: str, **env: str) -> subprocess.CompletedProcess[str]:
    """Run make as a newcomer's shell would: none of this process's own settings."""
    own = ("PIP_", "UV_", "PYTHON", "VIRTUAL_ENV", "MAKE", "MFLAGS", "SLOW")
    kept = {k: v for k, v in os.environ.items() if not k.startswith(own)}
    return subprocess.run(
        ["make", *words],
        cwd=clone,
        env=kept | env,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def failure(result: subprocess.CompletedProcess[str]) -> str:
    """The one line on stderr, below which make adds its own."""
    assert result.returncode != 0, result.stdout
    lines = [line for line in result.stderr.splitlines() if not line.startswith("make")]
    assert len(lines) == 1, result.stderr
    assert lines[0].startswith("setup: ")
    return lines[0]


def calls(clone: Path) -> list[str]:
    return (clone / "calls").read_text().splitlines()


def test_installs_uv_then_the_lock_then_the_course(clone: Path) -> None:
    result = make(clone, "setup", PYTHON=fake_python(clone))
    assert result.returncode == 0, result.stderr
    assert result.stderr == ""
    pip, install, sync, course = calls(clone)
    pin = next(
        line
        for line in (clone / "requirements.lock").read_text().splitlines()
        if line.startswith("uv==")
    )
    assert pip.startswith("python -m ensurepip")
    assert install.startswith("python -m pip install") and install.endswith(pin)
    assert sync == "uv pip sync --python .venv/bin/python requirements.lock"
    assert "--no-deps --no-build-isolation --editable ." in course


def test_second_call_runs_nothing(clone: Path) -> None:
    python = fake_python(clone)
    assert make(clone, "setup", PYTHON=python).returncode == 0
    before, stamp = calls(clone), (clone / ".venv/.ready").stat().st_mtime_ns
    assert make(clone, "-q", "setup").returncode == 0
    assert make(clone, "setup").returncode == 0
    assert make(clone, "setup", PYTHON=python).returncode == 0
    assert calls(clone) == before
    assert (clone / ".venv/.ready").stat().st_mtime_ns == stamp


@pytest.mark.parametrize("name", FILES[:1] + FILES[2:])
def test_a_changed_file_is_installed_into_the_same_venv(clone: Path, name: str) -> None:
    assert make(clone, "setup", PYTHON=fake_python(clone)).returncode == 0
    (clone / "calls").unlink()
    later = (clone / ".venv/.ready").stat().st_mtime + 10
    os.utime(clone / name, (later, later))
    assert make(clone, "setup").returncode == 0
    assert not any("ensurepip" in call for call in calls(clone))
    assert any("pip sync" in call for call in calls(clone))


def test_a_moved_folder_is_set_up_anew(clone: Path) -> None:
    python = fake_python(clone)
    assert make(clone, "setup", PYTHON=python).returncode == 0
    moved = clone.rename(clone.with_name("moved"))
    assert make(moved, "-q", "setup").returncode == 1
    result = make(moved, "setup", PYTHON=fake_python(moved))
    assert "the folder was moved" in result.stdout
    assert result.returncode == 0, result.stderr


def test_another_python_is_set_up_anew(clone: Path) -> None:
    python = fake_python(clone, version="3.99")
    assert make(clone, "setup", PYTHON=python).returncode == 0
    assert make(clone, "-q", "setup").returncode == 0
    assert make(clone, "-q", "setup", PYTHON=python).returncode == 1
    assert make(clone, "-q", "setup", f"PYTHON={python}").returncode == 1


def test_a_venv_whose_python_is_gone_is_set_up_anew(clone: Path) -> None:
    python = fake_python(clone)
    assert make(clone, "setup", PYTHON=python).returncode == 0
    (clone / ".venv/bin/python").unlink()
    result = make(clone, "setup", PYTHON=python)
    assert "its Python does not run" in result.stdout
    assert make(clone, "-q", "setup").returncode == 0


def test_a_half_made_venv_is_not_trusted(clone: Path) -> None:
    python = fake_python(clone, uv="echo 'error: something new'; exit 2")
    line = failure(make(clone, "setup", PYTHON=python))
    assert "installing requirements.lock failed: error: something new" in line
    assert "something new" in (clone / ".venv/setup.log").read_text()
    (clone / ".venv/left-over").touch()
    python = fake_python(clone)
    assert make(clone, "setup", PYTHON=python).returncode == 0
    assert not (clone / ".venv/left-over").exists()
    assert make(clone, "-q", "setup").returncode == 0


def test_python_too_old(clone: Path) -> None:
    python = str(script(clone / "stubs/python3", OLD_PYTHON))
    line = failure(make(clone, "setup", PYTHON=python))
    assert "needs Python 3.11 or newer" in line
    assert f"({python} is 3.10.13)" in line
    assert "make setup PYTHON=" in line
    assert not (clone / ".venv").exists()


def test_a_named_python_that_does_not_run(clone: Path) -> None:
    line = failure(make(clone, "setup", PYTHON="/nowhere/python3"))
    assert "/nowhere/python3 does not run" in line


def path_with(clone: Path, **pythons: str) -> str:
    """A PATH that holds these Pythons and what setting up calls, and nothing else."""
    tools = ["cat", "chmod", "dirname", "env", "head", "id", "make", "mkdir", "mv"]
    tools += ["rm", "sed", "sh", "tail", "uname"]
    folder = clone / "stubs"
    folder.mkdir(exist_ok=True)
    for tool in tools:
        (folder / tool).symlink_to(str(shutil.which(tool)))
    for name, text in pythons.items():
        script(folder / name.replace("_", "."), text)
    return str(folder)


def test_no_python_on_the_path(clone: Path) -> None:
    line = failure(make(clone, "setup", PATH=path_with(clone)))
    assert "(none was found)" in line


def test_only_old_pythons_on_the_path(clone: Path) -> None:
    path = path_with(clone, python3=OLD_PYTHON, python=OLD_PYTHON)
    line = failure(make(clone, "setup", PATH=path))
    assert "(python3 is 3.10.13, python is 3.10.13)" in line


def test_takes_the_first_python_that_runs_and_is_new_enough(clone: Path) -> None:
    good = Path(fake_python(clone)).rename(clone / "stubs/python3.12")
    shim = "#!/bin/sh\necho 'python3.13: command not found' >&2\nexit 127\n"
    path = path_with(clone, python3=OLD_PYTHON, python3_13=shim)
    result = make(clone, "setup", PATH=path)
    assert result.returncode == 0, result.stderr
    assert f"Python 3.12: {good}" in result.stdout


@pytest.mark.parametrize(
    "part",
    [
        {"venv": "echo 'python3: No module named venv' >&2; exit 1"},
        {"ensurepip": "echo '.venv: No module named ensurepip' >&2; exit 1"},
    ],
)
def test_debian_without_python3_venv(clone: Path, part: dict[str, str]) -> None:
    line = failure(make(clone, "setup", PYTHON=fake_python(clone, **part)))
    assert "cannot make virtual environments" in line
    assert "sudo apt install python3.12-venv" in line


# As uv 0.13 and pip 26 say it.
@pytest.mark.parametrize(
    ("says", "means"),
    [
        (
            "error: Request failed after 3 retries in 5.0s\n"
            "  cause: Failed to fetch: https://example.org/simple/numpy/\n"
            "  cause: error sending request for url\n"
            "  cause: dns error",
            "cannot be reached",
        ),
        (
            "error: No solution found when resolving dependencies\n"
            "hint: Packages were unavailable because the network was disabled.",
            "cannot be reached",
        ),
        (
            "error: Failed to install: torch-2.15.0.whl (torch==2.15.0)\n"
            "  cause: Failed to copy to torch/ops.h\n"
            "  cause: failed to copy file: No space left on device (os error 28)",
            "no space left on the disk",
        ),
        (
            "error: Distribution `torch==2.15.0` can't be installed because it doesn't "
            "have a source distribution or wheel for the current platform",
            "is not built for Python 3.12",
        ),
        ("", "installing requirements.lock failed: it gave no reason"),
    ],
)
def test_what_uv_says_is_told_in_one_line(clone: Path, says: str, means: str) -> None:
    (clone / "says").write_text(says + "\n")
    python = fake_python(clone, uv="cat says >&2; exit 2")
    line = failure(make(clone, "setup", PYTHON=python))
    assert means in line
    assert says in (clone / ".venv/setup.log").read_text()
    assert make(clone, "setup", PYTHON=fake_python(clone)).returncode == 0


def test_a_venv_whose_update_failed_is_not_trusted(clone: Path) -> None:
    assert make(clone, "setup", PYTHON=fake_python(clone)).returncode == 0
    script(clone / ".venv/bin/uv", "#!/bin/sh\necho 'error: half way' >&2\nexit 2\n")
    later = (clone / ".venv/.ready").stat().st_mtime + 10
    os.utime(clone / "requirements.lock", (later, later))
    assert "half way" in failure(make(clone, "setup"))
    result = make(clone, "setup", PYTHON=fake_python(clone))
    assert "anew: it is not finished" in result.stdout


def test_an_installed_venv_outlives_a_missing_network(clone: Path) -> None:
    # uv is asked for a new lock while there is no network: it has changed nothing yet.
    python = fake_python(clone)
    assert make(clone, "setup", PYTHON=python).returncode == 0
    (clone / ".venv/mine").touch()
    uv = clone / ".venv/bin/uv"
    works = uv.read_text()
    script(uv, "#!/bin/sh\necho 'cause: dns error' >&2\nexit 2\n")
    later = (clone / ".venv/.ready").stat().st_mtime + 10
    os.utime(clone / "requirements.lock", (later, later))
    assert "cannot be reached" in failure(make(clone, "setup"))
    script(uv, works)
    assert make(clone, "setup").returncode == 0
    assert (clone / ".venv/mine").exists()


def test_no_network(clone: Path) -> None:
    # Discard's port, where nothing listens; no cache, and none of pip's settings.
    proxy = dict.fromkeys(
        ["HTTPS_PROXY", "HTTP_PROXY", "ALL_PROXY"], "http://127.0.0.1:9"
    )
    lower = {name.lower(): address for name, address in proxy.items()}
    line = failure(
        make(
            clone,
            "setup",
            PYTHON=sys.executable,
            PIP_CONFIG_FILE=os.devnull,
            PIP_NO_CACHE_DIR="1",
            UV_NO_CACHE="1",
            **proxy,
            **lower,
        )
    )
    assert "cannot be reached" in line
    assert "while installing uv" in line
    assert "Connect and run `make setup` again" in line
    assert "ProxyError" in (clone / ".venv/setup.log").read_text()


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 4 MB, with room for a clone but not for pip."""
    folder = tmp_path / "disk"
    folder.mkdir()
    if sys.platform != "linux" or os.geteuid() != 0:
        pytest.skip("only root on Linux can mount a small disk")
    command = ["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(folder)]
    mounted = subprocess.run(command, capture_output=True, text=True, check=False)
    if mounted.returncode != 0:
        pytest.skip(f"a small disk cannot be mounted: {mounted.stderr.strip()}")
    copy_to(folder)
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def test_full_disk(small_disk: Path) -> None:
    line = failure(make(small_disk, "setup", PYTHON=sys.executable))
    assert "no space left on the disk" in line
    assert "free some space and run `make setup` again" in line


def interpreter(version: str) -> str:
    """A Python of this version that runs, by its name on PATH or as uv finds it."""
    found = [f"python{version}"]
    if uv := shutil.which("uv"):
        command = [uv, "python", "find", "--system", "--no-python-downloads", version]
        find = subprocess.run(command, capture_output=True, text=True, check=False)
        found.append(find.stdout.strip())
    for python in filter(None, found):
        with contextlib.suppress(OSError):
            ask = [python, "-c", "import sys; print('%d.%d' % sys.version_info[:2])"]
            answer = subprocess.run(ask, capture_output=True, text=True, check=False)
            if answer.stdout.strip() == version:
                return python
    pytest.skip(f"no Python {version} that runs was found")


@pytest.mark.slow
@pytest.mark.parametrize("version", ["3.11", "3.12", "3.13"])
def test_installs_on(clone: Path, version: str) -> None:
    python = interpreter(version)
    for name in ["d2lext", "README.md", "LICENSE", "LICENSE-lessons"]:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, clone / name)
        else:
            shutil.copy(ROOT / name, clone)
    # This machine's own settings for pip and uv are wanted here, such as a mirror.
    result = subprocess.run(
        ["make", "setup"],
        cwd=clone,
        env=os.environ | {"PYTHON": python},
        capture_output=True,
        text=True,
        timeout=1800,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    code = (
        "import sys, torch, d2lext, d2l.torch\n"
        "print('%d.%d' % sys.version_info[:2], d2lext.__file__)"
    )
    told = subprocess.check_output(
        [".venv/bin/python", "-c", code], cwd=clone, text=True
    )
    assert told.split(maxsplit=1)[0] == version
    assert told.strip().endswith(str(clone / "d2lext/__init__.py"))
    assert make(clone, "-q", "setup").returncode == 0
