#!/usr/bin/env bash
# Usage: scripts/quickstart.sh [options of `seg fit`]
# Installs the project into .venv (once), then trains a small network on generated images twice, side
# by side: with plain cross-entropy and with the recipe for rare classes. Prints the IoU of every class
# of both on the test split: 3 minutes on 2 cores. PYTHON may name the interpreter to use.
set -euo pipefail

root="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
"$root/scripts/install.sh"
cd "$root"
seg=.venv/bin/seg
logs=runs/quickstart_logs
mkdir -p "$logs"

# Each training gets half of the cores; images as small as these have no use for more than 4.
cores="$(nproc 2>/dev/null || getconf _NPROCESSORS_ONLN)"
threads="$((cores > 8 ? 4 : cores > 1 ? cores / 2 : 1))"
export OMP_NUM_THREADS="$threads" MKL_NUM_THREADS="$threads"

beside=""  # the process in the background, which Ctrl-C does not reach by itself
trap '[[ -z "$beside" ]] || { kill "$beside" && wait "$beside"; } 2>/dev/null || true' EXIT

failed() {  # LOG
  cat "$logs/$1.log" >&2
  echo "quickstart.sh: failed: see $logs/$1.log" >&2
  exit 1
}

start_beside() {  # LOG COMMAND...: what it says goes to the log
  "${@:2}" >"$logs/$1.log" 2>&1 &
  beside=$!
}

end_beside() {  # LOG
  wait "$beside" || failed "$1"
  beside=""
}

quietly() {  # LOG COMMAND...
  "${@:2}" >"$logs/$1.log" 2>&1 || failed "$1"
}

newest() {  # NAME: the last run of that name that has a checkpoint
  local folder found=""
  for folder in runs/"$1"/version_*; do
    if [[ -f "$folder/checkpoints/best.ckpt" && ( -z "$found" || "$folder" -nt "$found" ) ]]; then
      found="$folder"
    fi
  done
  [[ -n "$found" ]] || { echo "quickstart.sh: no run of $1 has a checkpoint" >&2; return 1; }
  echo "$found"
}

echo "Training twice, side by side: here with the recipe; plain cross-entropy tells $logs/plain.log."
start_beside plain "$seg" fit -c quickstart -c baseline "$@" --name quickstart_plain
"$seg" fit -c quickstart -c rare "$@" --name quickstart_recipe
end_beside plain
plain="$(newest quickstart_plain)"
recipe="$(newest quickstart_recipe)"

echo "Calibrating the recipe; evaluating both on the test split."
start_beside plain_test "$seg" test --ckpt_path "$plain/checkpoints/best.ckpt"
quietly calibrate "$seg" calibrate --ckpt_path "$recipe/checkpoints/best.ckpt"
quietly recipe_test "$seg" test --ckpt_path "$recipe/checkpoints/best-calibrated.ckpt"
end_beside plain_test
.venv/bin/python scripts/quickstart_table.py "plain=$plain/test/best" \
  "recipe=$recipe/test/best-calibrated"

cat <<END
Pictures, curves and checkpoints are in $recipe and $plain.

Your own images:
  source .venv/bin/activate
  seg init FOLDER
  seg fit -c mine.yaml -c rare --name mine
  seg calibrate --ckpt_path runs/mine/version_0/checkpoints/best.ckpt
END
