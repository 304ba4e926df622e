#!/bin/sh
# Starts run.py with what follows, in the working folder: one process for each card of each machine.
#   NUM_GPUS   cards of this machine (1)
#   NUM_NODES  machines (1)
#   NODE_RANK  number of this machine, from 0 (0)
#   HEAD       address of machine 0 (localhost)
set -eu
trainer=$(cd "$(dirname "$0")/../.." && pwd)
python=${PYTHON:-python}
gpus=${NUM_GPUS:-1} nodes=${NUM_NODES:-1}
if [ "$gpus" = 1 ] && [ "$nodes" = 1 ]; then
    exec "$python" "$trainer/run.py" "$@"
fi
exec "$python" -m torch.distributed.run --nnodes="$nodes" --node-rank="${NODE_RANK:-0}" --nproc-per-node="$gpus" \
    --master-addr="${HEAD:-localhost}" --master-port="${PORT:-29500}" "$trainer/run.py" "$@"
