#!/usr/bin/env bash
# Builds with the feature `mpi` and trains on several processes of this machine, as any user and on any number
# of processors. Only the crates that know the feature are built again. Where no MPI or no libclang is, it says
# so and leaves it.
set -euo pipefail
cd "$(dirname "$0")/.."

has_libclang() {
    [ -n "${LIBCLANG_PATH:-}" ] || compgen -G '/usr/lib/llvm-*/lib/libclang*.so*' > /dev/null ||
        compgen -G '/usr/lib*/libclang*.so*' > /dev/null || { ldconfig -p 2> /dev/null || true; } | grep -q libclang
}

if ! command -v mpicc > /dev/null || ! command -v mpirun > /dev/null || ! has_libclang; then
    echo "skipped: the feature mpi needs mpicc, mpirun and libclang" \
        "(Debian: libopenmpi-dev openmpi-bin libclang-dev)"
    exit 0
fi
cargo clippy --workspace --all-targets --features eigenmix/mpi -- -D warnings
cargo test --release -p eigenmix --features mpi --test mpi -- "$@"
