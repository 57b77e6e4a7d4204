//! One training on many processes, over a real MPI: needs the feature `mpi` and `mpirun` (`tests/mpi.sh`).

mod endings;
mod experiments;
mod launched;
mod same_bits;
#[path = "../support/mod.rs"]
mod support;
