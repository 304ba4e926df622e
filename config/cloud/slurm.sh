#!/bin/bash
# Slurm: sbatch config/cloud/slurm.sh my_job.yaml      from the trainer's folder, which every machine sees.
# The run saves and is queued again before its time is over, and when Slurm needs its machines for another job.
#SBATCH --job-name=flux2
#SBATCH --nodes=1
#SBATCH --ntasks-per-node=1
#SBATCH --gpus-per-node=1
#SBATCH --cpus-per-task=8
#SBATCH --time=12:00:00
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --signal=B:USR1@300
set -u
export NUM_GPUS=${SLURM_GPUS_ON_NODE:-1} NUM_NODES=$SLURM_NNODES
HEAD=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)
export HEAD PYTHON=${PYTHON:-.venv/bin/python}

pass_on() { kill -TERM "$run"; }    # srun hands it to all machines; the run has save.term_grace_s seconds
trap 'is_over=yes; pass_on' USR1    # 300 s before the end of --time
trap pass_on TERM                   # Slurm takes the machines back, and queues the job again by itself

srun sh -c 'NODE_RANK=$SLURM_NODEID exec sh config/cloud/start.sh "$@"' start "$@" &
run=$!
wait "$run"
code=$?
while kill -0 "$run" 2>/dev/null; do    # a signal ends `wait`, not the run
    wait "$run"
    code=$?
done
if [ "${is_over:-no}" = yes ] && [ "$code" != 0 ]; then
    scontrol requeue "$SLURM_JOB_ID"
fi
exit "$code"
