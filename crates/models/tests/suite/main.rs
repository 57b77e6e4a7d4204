//! What holds for every architecture, on models of random weights.

mod cached_decoding;
mod half_precision;
mod recomputation;
mod small_models;
