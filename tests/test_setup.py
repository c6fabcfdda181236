"""`make setup`: what it does the second time, and its last line when it cannot."""

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

# A Python that says it is 3.12 and makes a .venv of two stubs, which write down how
# they are called; `ensurepip` and `uv` are what happens at that point, in shell.
FAKE_PYTHON = """#!/bin/sh
case "$*" in
*_base_executable*) echo "$0"; exit ;;
*ensurepip*) {ensurepip}; exit ;;
"-c "*) echo 3.12; exit ;;
esac
mkdir -p .venv/bin
cat >.venv/bin/python <<'END'
#!/bin/sh
case "$*" in
"-c "*) echo {version} ;;
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
[ "$1" != -V ] || {{ echo Python 3.10.13; exit; }}
exec '{sys.executable}' -c "import sys; sys.version_info = (3, 10, 13)
$2"
"""


def copy_to(folder: Path) -> Path:
    for name in FILES:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, folder / name)
        os.utime(folder / name, (1, 1))
    return folder


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """What setting up reads, in a folder with a space and letters beyond Latin."""
    return copy_to(tmp_path / "kurs 课程")


def script(path: Path, text: str) -> str:
    path.parent.mkdir(exist_ok=True)
    path.write_text(text)
    path.chmod(0o755)
    return str(path)


def fake_python(clone: Path, **does: str) -> str:
    """A stand-in interpreter, and what its parts do if they are not to succeed."""
    does = {"ensurepip": ":", "uv": ":", "version": "3.12"} | does
    return script(clone / "stubs/python3", FAKE_PYTHON.format(**does))


def make(clone: Path, *words: str, **env: str) -> subprocess.CompletedProcess[str]:
    """Run make as a newcomer's shell would: none of this process's own settings."""
    own = ("PIP_", "UV_", "PYTHON", "VIRTUAL_ENV", "MAKE", "MFLAGS", "SLOW", "CPU")
    kept = {k: v for k, v in os.environ.items() if not k.startswith(own)}
    command, env = ["make", *words], kept | env
    return subprocess.run(
        command, cwd=clone, env=env, capture_output=True, text=True, timeout=120
    )


def installed(clone: Path, **env: str) -> None:
    result = make(clone, "setup", **env)
    assert (result.returncode, result.stderr) == (0, "")


def failure(result: subprocess.CompletedProcess[str]) -> str:
    """The last line on stderr, below which make adds its own."""
    assert result.returncode != 0, result.stdout
    lines = [line for line in result.stderr.splitlines() if not line.startswith("make")]
    assert lines[-1].startswith("setup: "), result.stderr
    return lines[-1]


def calls(clone: Path) -> list[str]:
    return (clone / "calls").read_text().splitlines()


def change(clone: Path, name: str) -> None:
    """As if a file was changed after the course was set up."""
    os.utime(clone / ".venv/.ready", (2, 2))
    os.utime(clone / name, (3, 3))


def test_installs_uv_then_the_lock_then_the_course(clone: Path) -> None:
    """And nothing at the second call."""
    python = fake_python(clone)
    installed(clone, PYTHON=python)
    assert make(clone, "-q", "setup").returncode == 0
    installed(clone, PYTHON=python)
    install, sync, course = calls(clone)
    lock = (clone / "requirements.lock").read_text().splitlines()
    pin = next(line for line in lock if line.startswith("uv=="))
    assert install.startswith("python -m pip install") and install.endswith(pin)
    assert sync == "uv pip sync --python .venv/bin/python requirements.lock"
    assert course.endswith("--no-deps --no-build-isolation --editable .")


def test_without_cuda(clone: Path) -> None:
    """CPU=1 is remembered when the lock changes and when the folder was moved."""
    installed(clone, PYTHON=fake_python(clone))
    assert make(clone, "-q", "setup", "CPU=1").returncode == 1
    installed(clone, PYTHON=fake_python(clone), CPU="1")
    assert make(clone, "-q", "setup", "CPU=1").returncode == 0
    change(clone, "requirements.lock")
    installed(clone)
    clone = clone.rename(clone.with_name("moved"))
    installed(clone, PYTHON=fake_python(clone))
    gpu, *cpu = [call for call in calls(clone) if " sync " in call]
    assert "--torch-backend" not in gpu and len(cpu) == 3
    assert all(call.endswith(" --torch-backend cpu .venv/cpu.lock") for call in cpu)
    locks = (clone / "requirements.lock", clone / ".venv/cpu.lock")
    lock, cpu = (set(path.read_text().splitlines()) for path in locks)
    assert cpu < lock and any(line.startswith("torch==") for line in cpu)
    gone = {line.partition("==")[0].partition("-")[0] for line in lock - cpu}
    assert gone == {"nvidia", "cuda", "triton"}


@pytest.mark.parametrize("name", ["tools/setup.sh", *FILES[2:]])
def test_a_changed_file_is_installed_into_the_same_venv(clone: Path, name: str) -> None:
    installed(clone, PYTHON=fake_python(clone))
    (clone / ".venv/mine").touch()
    change(clone, name)
    installed(clone)
    assert sum(" sync " in call for call in calls(clone)) == 2
    assert (clone / ".venv/mine").exists()


def test_an_update_that_failed_is_made_up_for(clone: Path) -> None:
    installed(clone, PYTHON=fake_python(clone))
    (clone / ".venv/mine").touch()
    works = (clone / ".venv/bin/uv").read_text()
    script(clone / ".venv/bin/uv", "#!/bin/sh\necho 'error: half way' >&2\nexit 2\n")
    change(clone, "requirements.lock")
    result = make(clone, "setup")
    assert "installing requirements.lock failed (why: above)" in failure(result)
    assert "Is the network there" in failure(result)
    assert "error: half way" in result.stderr
    assert make(clone, "-q", "setup").returncode == 1
    script(clone / ".venv/bin/uv", works)
    installed(clone)
    assert (clone / ".venv/mine").exists()


SPOIL = {
    "the folder was moved": lambda clone: clone.rename(clone.with_name("moved")),
    "its Python does not run": lambda clone: (clone / ".venv/bin/python").unlink(),
    "it is not finished": lambda clone: (clone / ".venv/.ready").unlink(),
}


@pytest.mark.parametrize("words", SPOIL)
def test_what_cannot_be_used_is_made_anew(clone: Path, words: str) -> None:
    installed(clone, PYTHON=fake_python(clone))
    (clone / ".venv/left-over").touch()
    clone = SPOIL[words](clone) or clone
    assert make(clone, "-q", "setup").returncode == 1
    result = make(clone, "setup", PYTHON=fake_python(clone))
    assert result.returncode == 0 and f"anew: {words}" in result.stdout
    assert not (clone / ".venv/left-over").exists()
    assert make(clone, "-q", "setup").returncode == 0


def test_another_python_is_set_up_anew(clone: Path) -> None:
    python = fake_python(clone, version="3.99")
    installed(clone, PYTHON=python)
    assert make(clone, "-q", "setup").returncode == 0
    assert make(clone, "-q", "setup", PYTHON=python).returncode == 1
    assert make(clone, "-q", "setup", f"PYTHON={python}").returncode == 1


def path_with(clone: Path, **pythons: str) -> str:
    """A PATH that holds these Pythons and what setting up calls, and nothing else."""
    folder = clone / "stubs"
    folder.mkdir(exist_ok=True)
    tools = "awk cat chmod df dirname env grep make mkdir rm sed sh"
    for tool in tools.split(" "):
        (folder / tool).symlink_to(str(shutil.which(tool)))
    for name, text in pythons.items():
        script(folder / name.replace("_", "."), text)
    return str(folder)


def test_python_too_old_or_missing(clone: Path) -> None:
    line = failure(make(clone, "setup", PATH=path_with(clone, python3=OLD_PYTHON)))
    assert "needs Python 3.11 or newer (python3 is Python 3.10.13, python3.13" in line
    assert "python is missing)" in line and "make setup PYTHON=" in line
    line = failure(make(clone, "setup", PYTHON="/nowhere/python3"))
    assert "newer (/nowhere/python3 is missing)" in line
    assert not (clone / ".venv").exists()


def test_takes_the_first_python_that_runs_and_is_new_enough(clone: Path) -> None:
    Path(fake_python(clone)).rename(clone / "stubs/python3.12")
    shim = "#!/bin/sh\necho 'python3.13: command not found' >&2\nexit 127\n"
    installed(clone, PATH=path_with(clone, python3=OLD_PYTHON, python3_13=shim))
    assert len(calls(clone)) == 3


def test_debian_without_python3_venv(clone: Path) -> None:
    line = failure(make(clone, "setup", PYTHON=fake_python(clone, ensurepip="exit 1")))
    assert "cannot make virtual environments" in line
    assert "sudo apt install python3.12-venv" in line


def test_no_network(clone: Path) -> None:
    # Discard's port, where nothing listens; no cache, and none of pip's settings.
    names = ["HTTPS_PROXY", "HTTP_PROXY", "ALL_PROXY"]
    off = {"PIP_CONFIG_FILE": os.devnull, "PIP_NO_CACHE_DIR": "1", "PIP_RETRIES": "1"}
    off |= dict.fromkeys([*names, *map(str.lower, names)], "http://127.0.0.1:9")
    line = failure(make(clone, "setup", PYTHON=sys.executable, **off))
    assert "installing uv failed" in line and "Is the network there" in line


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 4 MB, with room for a clone but not for pip."""
    (disk := tmp_path / "disk").mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(disk)]
    if shutil.which("mount") is None or subprocess.run(mount).returncode:
        pytest.skip("a small disk cannot be mounted here")
    yield copy_to(disk)
    subprocess.run(["umount", str(disk)], check=True)


def test_full_disk(small_disk: Path) -> None:
    line = failure(make(small_disk, "setup", PYTHON=sys.executable))
    assert "no space left on the disk while making .venv" in line
    assert "Free some and run `make setup` again" in line


def interpreter(version: str) -> str:
    """A Python of this version that runs, by its name on PATH or as uv finds it."""
    ask = "import sys; print('%d.%d' % sys.version_info[:2])"
    find = ["uv", "python", "find", "--system", "--no-python-downloads", version]
    found = subprocess.run(find, capture_output=True, text=True).stdout.strip()
    for python in filter(shutil.which, (f"python{version}", found)):
        answer = subprocess.run([python, "-c", ask], capture_output=True, text=True)
        if answer.stdout.strip() == version:
            return python
    pytest.skip(f"no Python {version} that runs was found")


@pytest.mark.slow
@pytest.mark.parametrize("version", ["3.11", "3.12", "3.13"])
def test_installs_on(clone: Path, version: str) -> None:
    shutil.copytree(ROOT / "d2lext", clone / "d2lext")
    for name in ["README.md", "LICENSE", "LICENSE-lessons"]:
        shutil.copy(ROOT / name, clone)
    # This machine's own settings for pip and uv are wanted here, such as a mirror.
    env = os.environ | {"PYTHON": interpreter(version)}
    subprocess.run(["make", "setup"], cwd=clone, env=env, check=True, timeout=1800)
    code = "import sys, d2lext; d2lext.nn; print(sys.version, d2lext.__file__)"
    command = [".venv/bin/python", "-c", code]
    told = subprocess.check_output(command, cwd=clone, text=True)
    assert told.startswith(version)
    assert told.strip().endswith(str(clone / "d2lext/__init__.py"))
    assert make(clone, "-q", "setup").returncode == 0
