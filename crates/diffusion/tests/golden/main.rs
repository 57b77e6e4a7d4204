//! Against diffusers, transformers and PEFT: tests/golden/diffusion/make_diffusion.py at the root.
//!
//! `EIGENMIX_DIFFUSION_GOLDEN` may name the directory of another run of that script.

mod adapters;
mod outputs;
mod reference;
mod sampling;
mod single_file;
mod training;
