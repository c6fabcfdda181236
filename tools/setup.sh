#!/bin/sh
# Make .venv: Python's own venv and pip fetch the pinned uv, and uv installs the lock.
# `make` runs this when .venv/.ready is missing or older than what it was made from.
# `--stale` only says why .venv must be made anew, or nothing. With CPU=1 the CUDA
# libraries stay away, now and whenever this .venv is brought up to date.
set -u
cd "$(dirname "$0")/.." || exit 1
py=.venv/bin/python
version='import sys; print("%d.%d" % sys.version_info[:2])'

stop() {
    echo "setup: $1" >&2
    exit 1
}

# step WHAT COMMAND...: run it; if it fails, say below its own words what mostly helps.
step() {
    what=$1
    shift
    "$@" </dev/null && return
    free=$(df -Pk . | awk 'NR == 2 { print int($4 / 1024) }')
    [ "$free" -ge 200 ] || stop "no space left on the disk while $what: $free MB are free, the course takes about 6 GB (in .venv and uv's cache). Free some and run \`make setup\` again"
    stop "$what failed (why: above). Is the network there, and a proxy named in HTTPS_PROXY? Then run \`make setup\` again; what was downloaded is kept"
}

stale=
if [ ! -f .venv/.ready ]; then
    stale="it is not finished"
elif [ "$(cat .venv/.ready)" != "$(pwd -P)" ]; then # scripts hold their old place
    stale="the folder was moved"
elif ! has=$("$py" -c "$version" 2>/dev/null); then
    stale="its Python does not run"
elif [ -n "${PYTHON:-}" ] && [ "$("$PYTHON" -c "$version" 2>/dev/null)" != "$has" ]; then
    stale="PYTHON is another one than its $has"
elif [ -n "${CPU:-}" ] && [ ! -f .venv/.cpu ]; then
    stale="it has the CUDA libraries"
fi
[ "${1:-}" != --stale ] || { echo "$stale" && exit; }

# pip and uv take their own settings from the environment; these would lead them astray.
unset VIRTUAL_ENV PYTHONHOME PIP_USER PIP_TARGET PIP_PREFIX UV_SYSTEM_PYTHON
if [ -n "$stale" ]; then
    set -- python3 python3.13 python3.12 python3.11 python
    [ -z "${PYTHON:-}" ] || set -- "$PYTHON" # the reader's choice, and no other
    seen= python=
    for name in "$@"; do # not .venv's own, which is about to go, but what it stands on
        python=$("$name" -c 'import sys; print(sys._base_executable); sys.exit(sys.version_info < (3, 11))' 2>/dev/null) && break
        seen="$seen, $name is $("$name" -V 2>/dev/null || echo missing)" python=
    done
    [ -n "$python" ] || stop "the course needs Python 3.11 or newer (${seen#, }). Install one, or name it: make setup PYTHON=/path/to/python3.12"
    "$python" -c 'import ensurepip, venv' 2>/dev/null || stop "$python cannot make virtual environments. On Debian and Ubuntu run \`sudo apt install python$("$python" -c "$version")-venv\`, then \`make setup\` again"
    [ ! -e .venv ] || echo "Making .venv anew: $stale."
    [ ! -f .venv/.cpu ] || CPU=1
    step "removing the old .venv" rm -rf .venv
    step "making .venv with $python" "$python" -m venv .venv
    [ -z "${CPU:-}" ] || : >.venv/.cpu
fi
echo "Installing requirements.lock (the first time it downloads 3 GB) ..."
lock=requirements.lock backend=
if [ -f .venv/.cpu ]; then
    lock=.venv/cpu.lock backend="--torch-backend cpu"
    step "writing $lock" sh -c "grep -Ev '^(nvidia|cuda|triton)' requirements.lock >$lock"
fi
step "installing uv" "$py" -m pip install --quiet --disable-pip-version-check --no-deps "$(sed -n 's/^\(uv==[^ ;]*\).*/\1/p' requirements.lock)"
# shellcheck disable=SC2086 # two words, or none
step "installing $lock" .venv/bin/uv pip sync --python "$py" $backend "$lock"
step "installing the course" .venv/bin/uv pip install --python "$py" --no-deps --no-build-isolation --editable .
step "finishing" sh -c 'pwd -P >.venv/.ready && [ -s .venv/.ready ]'
echo "Ready, in .venv."
