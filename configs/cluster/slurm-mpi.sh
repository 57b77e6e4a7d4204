#!/bin/bash
# One training on the processes of several nodes: every process computes its share of each step, and the first
# alone writes. The output directory must be visible to all nodes; the binary is built with `--features mpi`.
#
#     sbatch configs/cluster/slurm-mpi.sh train.toml
#     sbatch --nodes=4 configs/cluster/slurm-mpi.sh experiment.toml
#
# The file may be that of a training or of an experiment, whose cells are trained one after the other by all
# processes. The time limit may be short: a job that reaches it finishes its step, saves and is requeued, and the
# same command continues where it stopped, also on another number of nodes. With GPUs, a process for each:
# `--gpus-per-node=4 --ntasks-per-node=4`, and `--device cuda` behind the file.
#SBATCH --job-name=eigenmix
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=2
#SBATCH --cpus-per-task=8
#SBATCH --mem=32G
#SBATCH --time=04:00:00
#SBATCH --signal=B:TERM@120
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --output=eigenmix-%j.log
set -u

# A process that dies ends the step of Slurm, and with it the others.
srun --mpi="${EIGENMIX_MPI:-pmix}" --cpus-per-task="$SLURM_CPUS_PER_TASK" --kill-on-bad-exit=1 \
    eigenmix run "$@" --set processes=steps --threads "$SLURM_CPUS_PER_TASK" &
run=$!

# Asked to stop, the processes agree on the step after which they end, with everything saved.
stopped=no
trap 'stopped=yes; scancel --signal=TERM "$SLURM_JOB_ID.0"' TERM
wait "$run"
status=$?
if [ "$stopped" = yes ]; then
    wait "$run"
    status=$?
    scontrol requeue "$SLURM_JOB_ID"
fi
exit "$status"
