#!/usr/bin/env bash
# One run on several nodes of a SLURM cluster. From the repository, with ./launch/environment cluster done once:
#
#   sbatch --nodes=4 launch/slurm.sh configs/cifar10.yaml out=$PWD/runs/badge train.gpus_per_worker=1 shards=4
#
# out=DIR must be given, on the disk that all nodes share or as s3://BUCKET/FOLDER. A job that is preempted or out of time ends cleanly, is
# queued again, and goes on where it was.
#SBATCH --job-name=openal-ray
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=1
#SBATCH --cpus-per-task=8
#SBATCH --gpus-per-task=1
#SBATCH --time=12:00:00
#SBATCH --signal=B:TERM@120
#SBATCH --requeue
#SBATCH --output=openal-ray-%j.log
set -euo pipefail

config=${1:?the first argument is a configuration file}; shift
out=
for word in "$@"; do case $word in out=*) out=${word#out=} ;; esac; done
[ -n "$out" ] || { echo "out=DIR must be given, on the disk that all nodes share" >&2; exit 2; }

cd "${SLURM_SUBMIT_DIR:-$PWD}"
export PATH="$PWD/.venv/bin:$PATH" RAY_AUTH_MODE=token RAY_USAGE_STATS_ENABLED=0
export RAY_TMPDIR="/tmp/openal-ray-$SLURM_JOB_ID"             # Ray's files, of this job alone
umask 077
export RAY_AUTH_TOKEN_PATH="$HOME/.ray/openal-ray-$SLURM_JOB_ID"   # the token, on the home folder that nodes share
mkdir -p "$HOME/.ray"
python -c 'import secrets; print(secrets.token_hex(32), end="")' > "$RAY_AUTH_TOKEN_PATH"

mapfile -t nodes < <(scontrol show hostnames "$SLURM_JOB_NODELIST")
address=$(srun --overlap --nodes=1 --ntasks=1 -w "${nodes[0]}" hostname --ip-address | awk '{print $1}')
port=$((20000 + SLURM_JOB_ID % 20000))                       # other jobs may have a head on the same node
cpus=${SLURM_CPUS_PER_TASK:-1} gpus=${SLURM_GPUS_PER_TASK:-0}

ray_on() { srun --overlap --nodes=1 --ntasks=1 -w "$1" ray start --block --num-cpus="$cpus" --num-gpus="${gpus##*:}" "${@:2}" & }
finish() { rm -f "$RAY_AUTH_TOKEN_PATH"; [ -z "$(jobs -p)" ] || kill $(jobs -p) 2>/dev/null || true; }
trap finish EXIT
ray_on "${nodes[0]}" --head --node-ip-address="$address" --port="$port" --include-dashboard=false
sleep 15
for node in "${nodes[@]:1}"; do ray_on "$node" --address="$address:$port"; done

export RAY_ADDRESS="$address:$port"
if python -m openal_ray status "$out" > /dev/null 2>&1; then
  python -m openal_ray resume "$out" &
else
  python -m openal_ray run "$config" "$@" cluster.wait_seconds=300 &
fi
run=$!
# SLURM's notice goes to this script: it is passed on, the run keeps what is finished, and the job is queued again.
trap 'kill -TERM $run; wait $run || true; scontrol requeue "$SLURM_JOB_ID"; exit 143' TERM
code=0; wait $run || code=$?
exit $code
