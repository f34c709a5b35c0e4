#!/usr/bin/env bash
# Usage: scripts/quickstart.sh [options of `seg fit`]
# Installs the project into .venv (once), trains a small network on generated images and judges it
# on the test split. PYTHON may name the interpreter to use.
set -euo pipefail

root="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
"$root/scripts/install.sh"
cd "$root"

.venv/bin/seg fit -c configs/data/quickstart.yaml -c configs/loss/weighted_cross_entropy.yaml \
  -c configs/network/unet_small.yaml -c configs/optimizer/onecycle.yaml "$@" --name quickstart

run=""
for folder in runs/quickstart/version_*; do
  if [[ -f "$folder/checkpoints/best.ckpt" && ( -z "$run" || "$folder" -nt "$run" ) ]]; then
    run="$folder"
  fi
done
if [[ -z "$run" ]]; then
  echo "quickstart.sh: no runs/quickstart/version_*/checkpoints/best.ckpt; see the output above" >&2
  exit 1
fi
.venv/bin/seg test --ckpt_path "$run/checkpoints/best.ckpt"

cat <<END

The run is in $run:
  curves.png         loss and IoU of every class over the epochs
  per_class.csv      scores of the best validation, per_class.json the same for programs
  previews/          images beside their truth and prediction
  test/              scores and pictures of the test split
  checkpoints/       best.ckpt, and last.ckpt to resume from
  config.yaml        everything that was set

Next:
  another loss       .venv/bin/seg fit -c configs/data/quickstart.yaml -c configs/loss/focal.yaml
  your own images    .venv/bin/seg fit -c configs/data/folder.yaml --data.root PATH
  all curves         .venv/bin/tensorboard --logdir runs
END
