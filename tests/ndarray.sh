#!/usr/bin/env bash
# Builds with the ndarray backend and compares every method on it with the default backend of the CPU:
# losses, gradients and the steps of a training. Not part of .ci/run, as the backend adds about two
# minutes to a cold build on two cores. A target directory of its own keeps the default build whole.
set -euo pipefail
cd "$(dirname "$0")/.."
export CARGO_TARGET_DIR="${CARGO_TARGET_DIR:-target/ndarray}"
cargo test --release -p eigenmix --features ndarray --test backends -- --nocapture
