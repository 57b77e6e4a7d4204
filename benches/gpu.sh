#!/usr/bin/env bash
# Measures GPUs in two halves, as machines with a GPU are rarely the ones to compile on.
#
#     benches/gpu.sh pack PACK.tar.xz [BACKEND]...     wgpu, vulkan, cuda; wgpu if none is named
#     benches/gpu.sh run PACK.tar.xz [RESULTS]
#
# `pack` builds the program, the comparison with the CPU and the counting bench with each backend, into target
# directories of their own, strips and compresses them. `run` needs a driver and this repository's files (no
# compiler): for each backend it compares operations, models and trainings with the CPU's, then counts and times
# steps. Where a Python with PyTorch and PEFT is (PYTHON, and SHAPES as `peft/prepare.py` wrote them), `gpu.py`
# sets the steps beside theirs. CUDA also needs NVRTC.
#
# STEPS: the options of the bench; `--layers 0`, the whole models, unless set. An emulated GPU (Debian's
# mesa-vulkan-drivers) is enough with STEPS="--layers 2,3 --batch 4 --length 32 --vocabulary 1000 --dry".
# SECONDS_EACH: after how long a part is given up (240).
set -euo pipefail
root="$(cd "$(dirname "$0")/.." && pwd)"

pack() {
    local output="$1"
    shift
    local place
    place="$(mktemp -d)"
    for backend in "${@:-wgpu}"; do
        mkdir -p "$place/pack/$backend"
        (cd "$root" && cargo build --release -p eigenmix --features "$backend" \
            --bin eigenmix --test backends --bench gpu \
            --target-dir "${CARGO_TARGET_DIR:-target/$backend}" --message-format json) |
            sed -n 's/.*"executable":"\([^"]*\)".*/\1/p' |
            while read -r program; do
                local name
                name="$(basename "$program" | sed 's/-[0-9a-f]\{16\}$//')"
                strip -o "$place/pack/$backend/$name" "$program"
            done
        ls -l "$place/pack/$backend"
    done
    XZ_OPT="${XZ_OPT:--T0}" tar -C "$place" -cJf "$output" pack
    rm -r "$place"
    ls -l "$output"
}

run() {
    local packed results place each="${SECONDS_EACH:-240}"
    packed="$(realpath "$1")"
    results="${2:-gpu-results}"
    mkdir -p "$results"
    results="$(realpath "$results")"
    place="$(mktemp -d)"
    tar -C "$place" -xJf "$packed"
    # wgpu and Mesa keep compiled kernels here; a driver without a home would compile them each time.
    export XDG_RUNTIME_DIR="${XDG_RUNTIME_DIR:-$place}"
    export CARGO_MANIFEST_DIR="$root/crates/eigenmix"
    local failed=0 binaries=()
    for directory in "$place"/pack/*/; do
        local backend
        backend="$(basename "$directory")"
        binaries+=(--binary "$backend=$directory/eigenmix")
        echo "== $backend"
        "$directory/eigenmix" devices
        echo "-- compared with the CPU"
        timeout "$each" "$directory/backends" --nocapture --test-threads 1 \
            --skip devices_are_listed > "$results/$backend-parity.txt" 2>&1 || failed=1
        grep -E "^test |panicked|at most" "$results/$backend-parity.txt" || true
        echo "-- steps"
        # shellcheck disable=SC2086 # several options
        (cd "$place" && timeout "$each" "$directory/gpu" --device "$backend" ${STEPS:---layers 0}) \
            2> "$results/$backend-steps.log" | tee "$results/$backend-steps.md" || failed=1
    done
    if [ -n "${SHAPES:-}" ] && "${PYTHON:-python3}" -c "import torch, peft" 2> /dev/null; then
        local backends
        backends="$(ls "$place/pack" | paste -sd,)"
        timeout "$each" "${PYTHON:-python3}" "$root/benches/gpu.py" "$SHAPES" --backends "$backends" \
            "${binaries[@]}" | tee "$results/beside-peft.md" || failed=1
    else
        echo "no PyTorch with PEFT, or no SHAPES: not compared"
    fi
    rm -r "$place"
    return "$failed"
}

case "${1:-}" in
    pack | run)
        [ $# -ge 2 ] || { echo "a pack to $1" >&2; exit 2; }
        "$@"
        ;;
    *)
        sed -n '2,/^set/{/^#/s/^# \{0,1\}//p}' "$0" >&2
        exit 2
        ;;
esac
