//! Weights in few bits: GGUF's block formats, bitsandbytes' four and eight bits, and the groups of
//! GPTQ, AWQ and MLX.
//!
//! An [`EncodedMatrix`] is a matrix `[rows, cols]` as it is stored. Its rows are decoded piece by
//! piece, where a product needs them, and nothing decoded is kept.
//!
//! ```
//! use eigenmix_quant::{EncodedMatrix, Encoding};
//!
//! # fn main() -> Result<(), eigenmix_quant::QuantError> {
//! // One block of Q8_0: a scale of 0.5 in half precision and 32 codes, of which the first is −3.
//! let mut bytes = vec![0x00, 0x38, 0xfd];
//! bytes.resize(34, 1);
//! let matrix = EncodedMatrix::blocks(Encoding::Q8_0, [1, 32], bytes.into())?;
//! assert_eq!(matrix.to_f32()[..2], [-1.5, 0.5]);
//! # Ok(())
//! # }
//! ```

mod blocks;
mod codebook;
mod encoding;
mod error;
mod grouped;
mod k_blocks;
mod lookup;
mod matrix;
mod quantise;
mod row_scaled;

pub use blocks::{CODES, IQ4_VALUES, SIGNED, widened};
pub use codebook::{CodebookMatrix, Rounding};
pub use encoding::Encoding;
pub use error::QuantError;
pub use grouped::GroupedMatrix;
pub use k_blocks::scale_and_minimum;
pub use lookup::{Lookup, Portable};
pub use matrix::EncodedMatrix;
pub use quantise::{NF4, int8, nf4};
pub use row_scaled::RowScaledMatrix;
