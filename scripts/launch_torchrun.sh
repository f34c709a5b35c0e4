#!/usr/bin/env bash
# Usage, the same command on every node, but for NODE_RANK:
#   HOST=node0 NODES=2 NODE_RANK=0 scripts/launch_torchrun.sh [options of `seg fit`]
# Trains on all GPUs of all nodes as one run. HOST is the node of rank 0, as the others reach it.
# On one node no variable is needed. Also read: PORT (29500), PROCESSES (of each node; one a GPU)
# and PYTHON (of .venv). Nodes see the same data and the same folder for the run.
set -euo pipefail

root="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
nodes="${NODES:-1}"
if (( nodes > 1 )) && [[ -z "${HOST:-}" || -z "${NODE_RANK:-}" ]]; then
  echo "launch_torchrun.sh: NODES=$nodes needs HOST, the node of rank 0, and NODE_RANK," \
    "from 0 to $(( nodes - 1 )), on every node" >&2
  exit 2
fi

exec "${PYTHON:-$root/.venv/bin/python}" -m torch.distributed.run \
  --nnodes "$nodes" --node_rank "${NODE_RANK:-0}" --nproc_per_node "${PROCESSES:-gpu}" \
  --master_addr "${HOST:-127.0.0.1}" --master_port "${PORT:-29500}" \
  -m seg fit -c "$root/configs/trainer/multinode.yaml" \
  --trainer.num_nodes "$nodes" --trainer.devices "${PROCESSES:--1}" "$@"
