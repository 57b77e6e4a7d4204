//! Diffusion models through the whole command line: tests/golden/diffusion, see golden/README.md.
//!
//! `EIGENMIX_DIFFUSION_GOLDEN` may name the directory of another run of the script there.

mod files;
mod images;
mod parts;
mod refusals;
mod similarity;
#[path = "../support/mod.rs"]
mod support;
mod toys;
mod training;
