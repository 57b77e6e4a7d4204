//! Weights in few bits.

mod encoding;

pub use encoding::Encoding;
