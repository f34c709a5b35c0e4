#!/usr/bin/env bash
# Usage: scripts/test.sh [--quick | --lowest] [options of pytest]
# Installs the project with its test tools into .venv (once), then checks style, types and tests.
# --quick leaves out the tests that are marked slow. --lowest runs the quick tests with the lowest
# versions that pyproject.toml allows, in the environment .venv-lowest (some GB).
set -euo pipefail

root="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
tests=(--dist loadfile --no-loadscope-reorder)
python=.venv/bin/python
case "${1:-}" in
  --quick | --lowest) tier="$1" && shift && tests+=(-n 2 -m "not slow") ;;
  *) tier="" && tests+=(-n 3) ;;  # slow tests wait for other processes a third of their time
esac

[[ "$tier" == --lowest ]] || "$root/scripts/install.sh" test
cd "$root"

if [[ "$tier" == --lowest ]]; then
  uv=.venv-lowest/tools/bin/uv
  python=.venv-lowest/env/bin/python
  if [[ ! -x "$uv" ]]; then
    "${PYTHON:-python3}" -m venv .venv-lowest/tools
    .venv-lowest/tools/bin/python -m pip install -q uv
  fi
  if [[ ! -x "$python" ]]; then
    "$uv" venv -q --python 3.11 .venv-lowest/env
  fi
  # --upgrade: to what the bounds say now, not to what an earlier call has left
  "$uv" pip install -q --python "$python" --upgrade --resolution lowest-direct \
    --editable '.[test]'
  # Old versions warn of what newer ones have changed: a warning is no error here.
  tests+=(-W ignore -o filterwarnings=)
else
  "$python" -m ruff check .
  "$python" -m ruff format --check .
  "$python" -m mypy
  if "$python" -c "import sphinx, myst_nb" 2>/dev/null; then  # the extra docs
    SEG_DOCS_OFFLINE=1 "$python" -m sphinx -W -q -b html docs build/docs
  fi
fi

# One thread a worker: two workers of many threads each would fight over the cores.
export OMP_NUM_THREADS=1
exec "$python" -m pytest "${tests[@]}" "$@"
