#!/bin/sh
# Make .venv: Python's own venv and pip fetch the pinned uv, and uv installs the lock.
# `make` runs this when .venv/.ready is missing or older than what it was made from.
# Whatever goes wrong ends in one line on stderr; the details are in .venv/setup.log.
#
#   sh tools/setup.sh            set up
#   sh tools/setup.sh --stale    say why .venv must be made anew, or nothing
set -u
cd "$(dirname "$0")/.." || exit 1
log=.venv/setup.log
py=.venv/bin/python
finished="-- finished --"

stop() {
    echo "setup: $1" >&2
    exit 1
}

# Print a candidate's version and interpreter, if it runs. A name on PATH may be a shim
# that does not; a Python inside a virtual environment stands for the one it came from.
probe() {
    "$1" -c 'import sys
print("%d.%d.%d" % sys.version_info[:3])
print(getattr(sys, "_base_executable", "") or sys.executable)
sys.exit(sys.version_info < (3, 11))' 2>/dev/null
}

find_python() {
    seen=
    for name in ${PYTHON:+"$PYTHON"} python3 python3.13 python3.12 python3.11 python; do
        if found=$(probe "$name"); then
            python=$(printf '%s\n' "$found" | tail -n 1)
            return
        fi
        [ -z "$found" ] || seen="$seen, $name is $(printf '%s\n' "$found" | head -n 1)"
        # Named by the reader: no other one is taken in its place.
        [ -z "${PYTHON:-}" ] || break
    done
    if [ -z "$seen" ]; then
        [ -n "${PYTHON:-}" ] && seen=", $PYTHON does not run" || seen=", none was found"
    fi
    stop "the course needs Python 3.11 or newer (${seen#, }). Install one, or name it: make setup PYTHON=/path/to/python3.12"
}

# Why an installed .venv cannot be used: it is half made, it was moved (the editable
# install and the scripts hold its old place), its Python is gone, or another is asked for.
stale() {
    if [ ! -f .venv/.ready ]; then
        echo "it is not finished"
    elif [ "$(cat .venv/.ready)" != "$(pwd -P)" ]; then
        echo "the folder was moved"
    elif ! has=$("$py" -c 'import sys, uv; print("%d.%d" % sys.version_info[:2])' 2>/dev/null); then
        echo "its Python does not run"
    elif [ -n "${PYTHON:-}" ]; then
        asked=$(probe "$PYTHON" | head -n 1)
        [ "${asked%.*}" = "$has" ] || echo "PYTHON is ${asked:-something that does not run}, not $has"
    fi
}

# Run a command with its output in the log and what uv downloads on the screen (fd 3).
# If it fails, print why. The lines are judged as they pass: a full disk keeps no log.
try() {
    { "$@" </dev/null 2>&1 && echo "$finished"; } | {
        why="it gave no reason"
        while IFS= read -r line; do
            printf '%s\n' "$line" >>"$log"
            case $line in
            "$finished") exit 0 ;;
            *"Errno 28]"* | *"os error 28"* | *"No space left"* | *"uota exceeded"*)
                why=disk
                ;;
            esac
            [ "$why" != disk ] || continue
            case $line in
            *"No module named venv"* | *"No module named ensurepip"* | *"nsurepip is "*)
                why=venv
                ;;
            *"for the current platform"*) why=platform ;;
            *onnection*rror* | *"onnection reset"* | *onnect*imeout* | *"timed out"* | \
                *ProxyError* | *SSLError* | *ameResolution* | *"ame resolution"* | \
                *"ailed to fetch"* | *"rror sending request"* | *"dns error"* | \
                *"body error"* | *"HTTP status"* | *"etwork was disabled"*)
                why=network
                ;;
            *Downloading*[0-9]*iB*) echo "  $line" >&3 ;;
            esac
            case $why in
            venv | platform | network) ;;
            *) [ -z "$line" ] || why=$line ;;
            esac
        done 2>/dev/null
        printf '%s\n' "$why"
        exit 1
    }
}

# step WHAT COMMAND...: run the command, or stop with one line on why WHAT failed.
step() {
    what=$1
    shift
    why=$(try "$@") && return
    more="; details: $log"
    [ -s "$log" ] || more=
    case $why in
    disk)
        stop "no space left on the disk while $what. The course takes about 6 GB here (in .venv and uv's cache): free some space and run \`make setup\` again$more"
        ;;
    network)
        # uv fetches everything before it changes anything: the old .venv still stands.
        [ ! -f .venv/.before ] || mv .venv/.before .venv/.ready
        stop "the Python Package Index cannot be reached (no network, or a proxy in the way) while $what. Connect and run \`make setup\` again; what was downloaded is kept$more"
        ;;
    venv)
        stop "$python cannot make virtual environments. On Debian and Ubuntu run \`sudo apt install python$version-venv\`, then \`make setup\` again$more"
        ;;
    platform)
        stop "a package of requirements.lock is not built for Python $version on $(uname -sm). Try another one: make setup PYTHON=/path/to/python3.13$more"
        ;;
    *)
        stop "$what failed: $why$more"
        ;;
    esac
}

if [ "${1:-}" = --stale ]; then
    stale
    exit
fi

exec 3>&1
# pip and uv take their own settings from the environment; these would lead them astray.
unset VIRTUAL_ENV PYTHONHOME PIP_USER PIP_TARGET PIP_PREFIX UV_SYSTEM_PYTHON
uv=$(sed -n 's/^\(uv==[^ ;]*\).*/\1/p' requirements.lock)
[ -n "$uv" ] || stop "requirements.lock names no version of uv: get it back with \`git checkout requirements.lock\`"

reason=$(stale)
if [ -n "$reason" ]; then
    find_python
    version=$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
    if [ -e .venv ]; then echo "Making .venv anew: $reason."; fi
    step "removing the old .venv" rm -rf .venv
    step "making the folder .venv" env LC_ALL=C mkdir .venv
    echo "Python $version: $python"
    # In two steps, since venv hides what went wrong in ensurepip.
    step "making .venv" "$python" -m venv --without-pip .venv
    step "installing pip" "$py" -m ensurepip --default-pip
else
    python=$py
    version=$("$py" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
    : >"$log"
    # From here on an interrupted run leaves no stamp.
    mv .venv/.ready .venv/.before
fi

echo "Installing requirements.lock (the first time it downloads 3 GB) ..."
step "installing uv" "$py" -m pip install --disable-pip-version-check --retries 2 \
    --no-deps --only-binary :all: "$uv"
step "installing requirements.lock" .venv/bin/uv pip sync --python "$py" requirements.lock
step "installing the course" .venv/bin/uv pip install --python "$py" \
    --no-deps --no-build-isolation --editable .
step "finishing" sh -c 'pwd -P >.venv/.ready && [ -s .venv/.ready ]'
rm -f .venv/.before
echo "Ready, in .venv."
