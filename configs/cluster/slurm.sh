#!/bin/bash
# An experiment spread over a Slurm job array. The output directory must be visible to all nodes.
#
#     sbatch configs/cluster/slurm.sh configs/clinc150.toml
#     eigenmix report runs/clinc150
#
# The time limit may be short: a task that reaches it finishes its step, saves and is requeued, and the
# same command continues where it stopped. More tasks than cells are useless.
#SBATCH --job-name=eigenmix
#SBATCH --array=1-8
#SBATCH --cpus-per-task=8
#SBATCH --mem=16G
#SBATCH --time=04:00:00
#SBATCH --signal=B:TERM@120
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --output=eigenmix-%A-%a.log
set -u

eigenmix run "$@" \
    --shard "$SLURM_ARRAY_TASK_ID/$SLURM_ARRAY_TASK_COUNT" \
    --threads "$SLURM_CPUS_PER_TASK" &
run=$!

# Asked to stop, the run ends after its step, with everything saved.
stopped=no
trap 'stopped=yes; kill -TERM "$run"' TERM
wait "$run"
status=$?
if [ "$stopped" = yes ]; then
    wait "$run"
    status=$?
    scontrol requeue "${SLURM_ARRAY_JOB_ID}_$SLURM_ARRAY_TASK_ID"
fi
exit "$status"
