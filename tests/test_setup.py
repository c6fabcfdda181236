"""`make setup`: what it does the second time, and its last line when it cannot.

And environment.yml, by way of its pip section: d2l's own pins, and the lessons run.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from tests.lessons import ROOT, copy_course

FILES = ["tools/setup.sh", "Makefile", "pyproject.toml", "requirements.lock"]

pytestmark = pytest.mark.skipif(
    shutil.which("make") is None or os.name != "posix", reason="needs make and sh"
)

# A Python that says it is 3.12, and makes a .venv of copies of itself, which write down
# how they are called, also as uv. The call that holds $FAIL fails.
STUB = """#!/bin/sh
case "$*" in
*"${FAIL:-nothing}"*) echo 'error: half way' >&2; exit 2 ;;
*_base_executable*) echo "$0" ;;
*ensurepip*) ;;
"-c "*) echo 3.12 ;;
"-m venv .venv") mkdir -p .venv/bin; cp "$0" .venv/bin/python; cp "$0" .venv/bin/uv ;;
*) echo "${0##*/} $*" >>calls ;;
esac
"""
# This Python, which takes itself for the last one that is too old.
OLD_PYTHON = f"""#!/bin/sh
[ "$1" != -V ] || {{ echo Python 3.10.13; exit; }}
exec '{sys.executable}' -c "import sys; sys.version_info = (3, 10, 13)
$2"
"""


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """What setting up reads, in a folder with a space and letters beyond Latin."""
    folder = tmp_path / "kurs 课程"
    (folder / "tools").mkdir(parents=True)
    for name in FILES:
        shutil.copy(ROOT / name, folder / name)
        os.utime(folder / name, (1, 1))
    return folder


def script(path: Path, text: str) -> str:
    path.parent.mkdir(exist_ok=True)
    path.write_text(text)
    path.chmod(0o755)
    return str(path)


def stub(clone: Path) -> str:
    return script(clone / "stubs/python3", STUB)


def make(clone: Path, *words: str, **env: str) -> subprocess.CompletedProcess[str]:
    """Run make as a newcomer's shell would: none of this process's own settings."""
    own = ("PIP_", "UV_", "PYTHON", "VIRTUAL_ENV", "MAKE", "MFLAGS", "SLOW", "CPU")
    kept = {k: v for k, v in os.environ.items() if not k.startswith(own)}
    how = {"cwd": clone, "env": kept | env, "capture_output": True, "text": True}
    return subprocess.run(["make", *words], **how, timeout=120)


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
    python = stub(clone)
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
    installed(clone, PYTHON=stub(clone))
    assert make(clone, "-q", "setup", "CPU=1").returncode == 1
    installed(clone, PYTHON=stub(clone), CPU="1")
    assert make(clone, "-q", "setup", "CPU=1").returncode == 0
    change(clone, "requirements.lock")
    installed(clone)
    clone = clone.rename(clone.with_name("moved"))
    installed(clone, PYTHON=stub(clone))
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
    """Also if that fails at first."""
    installed(clone, PYTHON=stub(clone))
    (clone / ".venv/mine").touch()
    change(clone, name)
    result = make(clone, "setup", FAIL=" sync ")
    assert failure(result) and "error: half way" in result.stderr
    assert make(clone, "-q", "setup").returncode == 1
    installed(clone)
    assert sum(" sync " in call for call in calls(clone)) == 2
    assert (clone / ".venv/mine").exists()


FAILURES = {
    "ensurepip": "On Debian and Ubuntu run `sudo apt install python3.12-venv`, then",
    "uv==": "installing uv failed",
    " sync ": "installing requirements.lock failed (why: above). Is the network there",
    "--editable": "installing the course failed",
}


@pytest.mark.parametrize("call", FAILURES)
def test_what_failed_is_named_and_made_up_for(clone: Path, call: str) -> None:
    result = make(clone, "setup", PYTHON=stub(clone), FAIL=call)
    assert FAILURES[call] in failure(result)
    installed(clone, PYTHON=stub(clone))


SPOIL = {
    "the folder was moved": lambda clone: clone.rename(clone.with_name("moved")),
    "its Python does not run": lambda clone: (clone / ".venv/bin/python").unlink(),
    "it is not finished": lambda clone: (clone / ".venv/.ready").unlink(),
    "PYTHON is another one than its 3.99": lambda clone: script(
        clone / ".venv/bin/python", "#!/bin/sh\necho 3.99\n"
    ),
}


@pytest.mark.parametrize("words", SPOIL)
def test_what_cannot_be_used_is_made_anew(clone: Path, words: str) -> None:
    installed(clone, PYTHON=stub(clone))
    (clone / ".venv/left-over").touch()
    SPOIL[words](clone)
    (clone,) = clone.parent.iterdir()
    python = f"PYTHON={stub(clone)}"
    assert make(clone, "-q", "setup", python).returncode == 1
    result = make(clone, "setup", python)
    assert result.returncode == 0 and f"anew: {words}" in result.stdout
    assert not (clone / ".venv/left-over").exists()
    assert make(clone, "-q", "setup").returncode == 0


def path_with(clone: Path, **pythons: str) -> str:
    """A PATH that holds these Pythons and what setting up calls, and nothing else."""
    folder = clone / "stubs"
    for name, text in pythons.items():
        script(folder / name.replace("_", "."), text)
    tools = "awk cat cp df dirname env grep make mkdir rm sed sh"
    for tool in tools.split(" "):
        (folder / tool).symlink_to(str(shutil.which(tool)))
    return str(folder)


def test_python_too_old_or_missing(clone: Path) -> None:
    line = failure(make(clone, "setup", PATH=path_with(clone, python3=OLD_PYTHON)))
    assert "needs Python 3.11 or newer (python3 is Python 3.10.13, python3.13" in line
    assert "python is missing)" in line and "make setup PYTHON=" in line
    line = failure(make(clone, "setup", PYTHON="/nowhere/python3"))
    assert "newer (/nowhere/python3 is missing)" in line
    assert not (clone / ".venv").exists()


def test_takes_the_first_python_that_runs_and_is_new_enough(clone: Path) -> None:
    Path(stub(clone)).rename(clone / "stubs/python3.12")
    shim = "#!/bin/sh\necho 'python3.13: command not found' >&2\nexit 127\n"
    installed(clone, PATH=path_with(clone, python3=OLD_PYTHON, python3_13=shim))
    assert len(calls(clone)) == 3


def test_full_disk(clone: Path) -> None:
    """One of 4 MB, with room for a clone but not for pip."""
    (disk := clone.with_name("disk")).mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(disk)]
    if shutil.which("mount") is None or subprocess.run(mount).returncode:
        pytest.skip("a small disk cannot be mounted here")
    try:
        shutil.copytree(clone, disk, dirs_exist_ok=True)
        line = failure(make(disk, "setup", PYTHON=sys.executable))
    finally:
        subprocess.run(["umount", str(disk)], check=True)
    assert "no space left on the disk while making .venv" in line
    assert "Free some and run `make setup` again" in line


def interpreter(version: str) -> str:
    """A Python of this version that runs, by its name on PATH or as uv finds it."""
    find = ["uv", "python", "find", "--system", "--no-python-downloads", version]
    found = subprocess.run(find, capture_output=True, text=True).stdout.strip()
    for python in filter(shutil.which, (f"python{version}", found)):
        if subprocess.run([python, "-V"], capture_output=True).returncode == 0:
            return python
    pytest.skip(f"no Python {version} that runs was found")


@pytest.mark.slow
@pytest.mark.parametrize("version", ["3.11", "3.12", "3.13"])
def test_installs_on(clone: Path, version: str) -> None:
    copy_course(clone)
    # This machine's own settings for pip and uv are wanted here, such as a mirror.
    env = os.environ | {"PYTHON": interpreter(version)}
    subprocess.run(["make", "setup"], cwd=clone, env=env, check=True, timeout=1800)
    code = "import sys, d2lext; d2lext.nn; print(sys.version, d2lext.__file__)"
    command = [".venv/bin/python", "-c", code]
    told = subprocess.check_output(command, cwd=clone, text=True)
    assert told.startswith(version)
    assert told.strip().endswith(str(clone / "d2lext/__init__.py"))
    assert make(clone, "-q", "setup").returncode == 0


def test_conda_installs_python_311_and_the_course() -> None:
    needs = yaml.safe_load((ROOT / "environment.yml").read_text())["dependencies"]
    assert needs == ["python=3.11", "pip", {"pip": ["-e .[lab,d2l,dev]"]}]


@pytest.mark.slow
def test_lessons_run_on_d2ls_own_pins(clone: Path, tmp_path: Path) -> None:
    copy_course(clone)
    make_venv = [interpreter("3.11"), "-m", "venv", str(tmp_path / "venv")]
    subprocess.run(make_venv, check=True)
    python = [str(tmp_path / "venv/bin/python"), "-m"]
    install = [*python, "pip", "install", "--quiet", "-e", ".[lab,d2l,dev]"]
    subprocess.run(install, cwd=clone, check=True, timeout=3600)
    has = subprocess.check_output([*python, "pip", "freeze"], text=True)
    assert "numpy==1.23.5" in has.splitlines()
    # Without the settings of pyproject.toml, which compare outputs.
    run = [*python, "pytest", "-o", "addopts=", "-p", "no:cacheprovider"]
    run += ["--nbval-lax", "--nbval-current-env", "--nbval-cell-timeout=300"]
    lessons = (clone / "notebooks").glob("*.ipynb")
    env = os.environ | {"D2LEXT_CIFAR10": "sample"}
    subprocess.run([*run, *lessons], cwd=clone, env=env, check=True, timeout=1800)
