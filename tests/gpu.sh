#!/usr/bin/env bash
# Builds with the wgpu backend and compares it with the default backend of the CPU: operations and their gradients,
# weights in every form of few bits, losses and gradients of every method, the steps of trainings. Not part of
# .ci/run, as the backend adds some ten minutes to a cold build on two cores. A GPU in software is enough (Debian's
# mesa-vulkan-drivers); its kernels take minutes to compile. A target directory of its own keeps the default build
# whole.
set -euo pipefail
cd "$(dirname "$0")/.."
export CARGO_TARGET_DIR="${CARGO_TARGET_DIR:-target/wgpu}"
# Trying variants of kernels takes longer than the tests; Mesa asks for a place of its own.
export CUBECL_AUTOTUNE_LEVEL="${CUBECL_AUTOTUNE_LEVEL:-minimal}"
export XDG_RUNTIME_DIR="${XDG_RUNTIME_DIR:-$CARGO_TARGET_DIR}"
cargo test --release -p eigenmix --features wgpu --test backends -- --nocapture --test-threads 1
