#!/usr/bin/env bash
# Usage: scripts/test.sh [options of pytest]
# Installs the project with its test tools into .venv (once), then checks style, types and tests.
set -euo pipefail

root="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
"$root/scripts/install.sh" test
cd "$root"

.venv/bin/python -m ruff check .
.venv/bin/python -m ruff format --check .
.venv/bin/python -m mypy

# One thread a worker: two workers of many threads each would fight over the cores.
export OMP_NUM_THREADS=1
exec .venv/bin/python -m pytest -n 2 --dist loadfile "$@"
