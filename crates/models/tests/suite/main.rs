//! What holds for every architecture, on models of random weights.

mod cached_decoding;
mod drawn_tensors;
mod half_precision;
mod recomputation;
mod small_models;
