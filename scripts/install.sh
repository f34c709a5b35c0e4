#!/usr/bin/env bash
# Usage: scripts/install.sh [test]
# Makes .venv and installs the project into it, with the versions of constraints.txt; "test" adds
# what the tests need. Does nothing when that was done before and nothing has changed since.
# PYTHON may name the interpreter to use.
set -euo pipefail

extra="${1:-}"
caller="$PWD"
stamp=.venv/seg-install  # what the finished installation was made from
mark=.venv.installing    # the process that installs; left over if it was cut short

fail() {
  printf 'install.sh: %s\n' "$1" >&2
  exit 1
}

# Prints the absolute path of a Python >= 3.11, never that of a virtual environment.
base_python() {
  "$1" -c '
import sys
sys.exit("too old") if sys.version_info < (3, 11) else print(sys._base_executable)
' 2>/dev/null
}

find_python() {
  local name
  if [[ -n "${PYTHON:-}" ]]; then
    base_python "$PYTHON" || fail "PYTHON=$PYTHON is no working Python 3.11 or newer"
    return
  fi
  for name in python3.13 python3.12 python3.11 python3; do
    base_python "$name" && return
  done
  fail "no Python 3.11 or newer found; install one, or name it: PYTHON=/path/to/python3.12 $0"
}

# What the installed state depends on; the folder, because .venv does not survive being moved.
fingerprint() {
  { pwd -P; cat pyproject.toml constraints.txt; } | cksum
}

# By its command line, as the number of a process that is gone may have been given to another.
is_installing() {
  [[ "$(ps -o args= -p "$1" 2>/dev/null)" == *install* ]]
}

# Ends without having touched .venv: the mark goes, unless it was there before.
give_up() {
  "$unfinished" || rm -f "$mark"
  fail "$1"
}

make_environment() {
  local python
  # PYTHON may be relative to where the caller is.
  python="$(cd "$caller" && find_python)" || give_up "cannot make .venv"
  "$python" -m venv --clear .venv
}

install_project() {
  local status=0
  # The mark names pip's own process: sh writes its id and then becomes pip.
  sh -c 'echo "$$" >"$0" && exec "$@"' "$mark" \
    .venv/bin/python -m pip install -qq --progress-bar off --no-input \
    --disable-pip-version-check --constraint constraints.txt --editable ".${extra:+[$extra]}" \
    || status=$?
  ((status <= 128)) || exit "$status"  # killed: the mark stays
  if ((status > 0)); then
    rm -f "$mark"
    fail "pip failed, see above; the next call tries again"
  fi
}

cd "$(dirname "${BASH_SOURCE[0]}")/.."
if [[ -f "$mark" ]] && is_installing "$(<"$mark")"; then
  fail "process $(<"$mark") is installing into .venv; wait for it to end"
fi
wanted="$(fingerprint)"
found="$(cat "$stamp" 2>/dev/null || true)"
unfinished=false
if [[ -f "$mark" ]]; then
  unfinished=true
  echo "An earlier installation was cut short: beginning again."
elif [[ "$found" == "$wanted test" || "$found" == "$wanted $extra" ]]; then
  exit 0
fi

echo "$$" >"$mark"
trap 'exit 130' INT  # pip may leave half a package behind on Ctrl-C: the mark stays
echo "Installing into .venv: some minutes and up to 6 GB, once."
if "$unfinished" || ! .venv/bin/python -m pip --version >/dev/null 2>&1; then
  make_environment
elif ! base_python .venv/bin/python >/dev/null; then
  give_up "the Python of .venv is older than 3.11; delete the folder .venv and try again"
fi
install_project
echo "$wanted $extra" >"$stamp"
rm "$mark"  # last: without it the installation is finished
