#!/usr/bin/env bash
# Usage: scripts/install.sh [test]
# Makes .venv and installs the project into it, with the versions of constraints.txt; "test" adds
# what the tests need. Does nothing when that was done before and nothing has changed since.
# PYTHON may name the interpreter to use.
set -euo pipefail

extra="${1:-}"
caller="$PWD"
cd "$(dirname "${BASH_SOURCE[0]}")/.."
stamp=.venv/seg-install  # what the finished installation was made from
lock=.venv.installing    # locked while installing; not empty if that was cut short
# The folder is part of it, because .venv does not survive being moved.
wanted="$({ pwd -P; cat pyproject.toml constraints.txt; } | cksum)"

# Prints the absolute path of a Python >= 3.11, never that of a virtual environment.
find_python() {
  local name ask='import sys; sys.version_info < (3, 11) or print(sys._base_executable)'
  for name in ${PYTHON:+"$PYTHON"} python3.13 python3.12 python3.11 python3; do
    "$name" -c "$ask" 2>/dev/null | grep . && return
    [[ -z "${PYTHON:-}" ]] || break  # no other one than was asked for
  done
  echo "install.sh: ${PYTHON:-python3}: no working Python 3.11 or newer; install one, or name it:" \
    "PYTHON=/path/to/python3.12 scripts/install.sh" >&2
  return 1
}

end_if_done() {
  local found
  found="$(cat "$stamp" 2>/dev/null || true)"
  [[ -s "$lock" || ( "$found" != "$wanted test" && "$found" != "$wanted $extra" ) ]] || exit 0
}

end_if_done
python="$(cd "$caller" && find_python)"  # PYTHON may be relative to where the caller is
# The lock belongs to this script and to pip: it ends with the last of them, however they end.
exec 9>>"$lock"
take='import fcntl; fcntl.flock(9, fcntl.LOCK_EX'
"$python" -c "$take | fcntl.LOCK_NB)" 2>/dev/null || {
  echo "Waiting for another installation into .venv to end."
  "$python" -c "$take)" || echo "install.sh: no locks here: run one installation at a time" >&2
}
end_if_done  # by the installation that was waited for

echo "Installing into .venv: some minutes and up to 6 GB, once."
cut_short="$(cat "$lock")"
echo "not finished" >"$lock"
trap 'exit 130' INT  # pip may leave half a package behind on Ctrl-C
if [[ -n "$cut_short" ]] || ! .venv/bin/python -m pip --version >/dev/null 2>&1; then
  "$python" -m venv --clear .venv
fi
rm -f "$stamp"
status=0
.venv/bin/python -m pip install -qq --progress-bar off --no-input --disable-pip-version-check \
  --constraint constraints.txt --editable ".${extra:+[$extra]}" || status=$?
((status <= 128)) || exit "$status"  # killed
[[ "$status" -ne 0 ]] || echo "$wanted $extra" >"$stamp"
: >"$lock"  # .venv is whole, also if pip failed
exit "$status"
