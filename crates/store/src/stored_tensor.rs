//! A tensor in the precision in which a store keeps it.

use std::fmt;
use std::str::FromStr;

use eigenmix_tensors::{Dtype, FileError, TensorFile, TensorOutput, encode};
use half::{bf16, f16};
use serde::{Deserialize, Serialize};

use crate::error::StoreError;

/// How numbers are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Precision {
    F32,
    F16,
    Bf16,
    /// Eight bits: whole numbers from −127 to 127 times a scale of each row, its largest magnitude / 127.
    Int8,
}

impl Precision {
    pub const ALL: [Self; 4] = [Self::F32, Self::F16, Self::Bf16, Self::Int8];

    /// Its name on the command line and in files.
    pub fn name(self) -> &'static str {
        match self {
            Self::F32 => "f32",
            Self::F16 => "f16",
            Self::Bf16 => "bf16",
            Self::Int8 => "int8",
        }
    }

    fn dtype(self) -> Dtype {
        match self {
            Self::F32 => Dtype::F32,
            Self::F16 => Dtype::F16,
            Self::Bf16 => Dtype::BF16,
            Self::Int8 => Dtype::I8,
        }
    }
}

impl fmt::Display for Precision {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.name())
    }
}

/// A word that names no precision.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no precision; choose f32, f16, bf16 or int8")]
pub struct UnknownPrecision(String);

impl FromStr for Precision {
    type Err = UnknownPrecision;

    fn from_str(word: &str) -> Result<Self, UnknownPrecision> {
        let mut all = Self::ALL.into_iter();
        all.find(|precision| precision.name() == word)
            .ok_or_else(|| UnknownPrecision(word.to_owned()))
    }
}

/// The bytes behind each row of eight bits: its scale as f32.
const SCALE_BYTES: usize = 4;

/// A tensor as it is kept: row-major, its rows along the first dimension.
///
/// On disk a tensor of eight bits is `[rows, columns + 4]` of I8: behind the numbers of each row lies
/// its scale, a little-endian f32.
#[derive(Clone, Debug, PartialEq)]
pub struct StoredTensor {
    shape: Vec<usize>,
    precision: Precision,
    bytes: Vec<u8>,
}

impl StoredTensor {
    /// `values` of the given shape, rounded. A vector is kept in f32 where eight bits are asked for: it
    /// is small, and such as a bias or a norm are worth their digits.
    ///
    /// - name: of the tensor, in errors
    ///
    /// # Errors
    /// If the precision has no number near a value, or one is not finite.
    pub fn new(
        name: &str,
        shape: &[usize],
        values: &[f32],
        precision: Precision,
    ) -> Result<Self, FileError> {
        let precision = match precision {
            Precision::Int8 if shape.len() < 2 => Precision::F32,
            other => other,
        };
        let bytes = match precision {
            Precision::Int8 => {
                // Eight bits would take any number without a word.
                encode(name, values, Dtype::F32)?;
                int8_rows(values, columns(shape))
            }
            other => encode(name, values, other.dtype())?,
        };
        Ok(Self {
            shape: shape.to_vec(),
            precision,
            bytes,
        })
    }

    pub fn shape(&self) -> &[usize] {
        &self.shape
    }

    pub fn precision(&self) -> Precision {
        self.precision
    }

    /// How many bytes it takes, scales included.
    pub fn byte_count(&self) -> usize {
        self.bytes.len()
    }

    /// The rounded values, row-major.
    pub fn values(&self) -> Vec<f32> {
        match self.precision {
            Precision::F32 => {
                let (numbers, _) = self.bytes.as_chunks();
                numbers.iter().copied().map(f32::from_le_bytes).collect()
            }
            Precision::F16 => {
                let (numbers, _) = self.bytes.as_chunks();
                let decode = |&number| f16::from_le_bytes(number).to_f32();
                numbers.iter().map(decode).collect()
            }
            Precision::Bf16 => {
                let (numbers, _) = self.bytes.as_chunks();
                let decode = |&number| bf16::from_le_bytes(number).to_f32();
                numbers.iter().map(decode).collect()
            }
            Precision::Int8 => {
                let rows = self.bytes.chunks_exact(columns(&self.shape) + SCALE_BYTES);
                rows.flat_map(int8_row).collect()
            }
        }
    }

    pub(crate) fn output(&self, name: &str) -> TensorOutput<'_> {
        let shape = file_shape(&self.shape, self.precision);
        TensorOutput::bytes(name, shape, self.precision.dtype(), &self.bytes)
    }

    /// Reads the tensor `name` of the given shape, and checks that its values are finite.
    pub(crate) fn read(file: &TensorFile, name: &str, shape: &[usize]) -> Result<Self, StoreError> {
        let (found, dtype) = file.tensor(name)?;
        let damaged = |problem: String| StoreError::Damaged {
            path: file.path().to_owned(),
            problem,
        };
        let mut all = Precision::ALL.into_iter();
        let Some(precision) = all.find(|precision| precision.dtype() == dtype) else {
            return Err(damaged(format!("`{name}` is of {dtype:?}")));
        };
        let expected = file_shape(shape, precision);
        if found != expected {
            return Err(damaged(format!(
                "`{name}` has shape {found:?}, expected {expected:?}"
            )));
        }
        let tensor = Self {
            shape: shape.to_vec(),
            precision,
            bytes: file.view(name)?.to_vec(),
        };
        match tensor.values().iter().all(|value| value.is_finite()) {
            true => Ok(tensor),
            false => Err(damaged(format!("`{name}` has a value that is not finite"))),
        }
    }

    /// The rows and columns of the matrix that the file keeps as the tensor `name`.
    pub(crate) fn columns_of(file: &TensorFile, name: &str) -> Result<[usize; 2], StoreError> {
        let (shape, dtype) = file.tensor(name)?;
        match (&shape[..], dtype) {
            (&[rows, columns], Dtype::I8) if columns >= SCALE_BYTES => {
                Ok([rows, columns - SCALE_BYTES])
            }
            (&[rows, columns], Dtype::F32 | Dtype::F16 | Dtype::BF16) => Ok([rows, columns]),
            _ => Err(StoreError::Damaged {
                path: file.path().to_owned(),
                problem: format!("`{name}` is no matrix of a store: {dtype:?} {shape:?}"),
            }),
        }
    }
}

/// The size of a row: the product of all dimensions but the first. One that overflows, in a damaged file, is
/// larger than any that is found.
fn columns(shape: &[usize]) -> usize {
    let sizes = shape.iter().skip(1);
    sizes.fold(1, |product: usize, size| product.saturating_mul(*size))
}

fn file_shape(shape: &[usize], precision: Precision) -> Vec<usize> {
    match precision {
        // A number alone is a row of its own.
        Precision::Int8 => vec![
            shape.first().copied().unwrap_or(1),
            columns(shape).saturating_add(SCALE_BYTES),
        ],
        _ => shape.to_vec(),
    }
}

fn int8_rows(values: &[f32], columns: usize) -> Vec<u8> {
    let rows = values.chunks_exact(columns.max(1));
    rows.flat_map(|row| {
        let largest = row
            .iter()
            .fold(0.0f32, |largest, value| largest.max(value.abs()));
        let scale = largest / 127.0;
        let quantised = row.iter().map(move |value| match scale > 0.0 {
            true => (value / scale).round().clamp(-127.0, 127.0) as i8,
            false => 0,
        });
        quantised
            .map(|number| number.to_le_bytes()[0])
            .chain(scale.to_le_bytes())
            .collect::<Vec<u8>>()
    })
    .collect()
}

/// The values of a row of numbers and its scale.
fn int8_row(row: &[u8]) -> Vec<f32> {
    let Some((numbers, scale)) = row.split_last_chunk() else {
        return Vec::new();
    };
    let scale = f32::from_le_bytes(*scale);
    let numbers = numbers.iter().map(|&byte| i8::from_le_bytes([byte]));
    numbers.map(|number| f32::from(number) * scale).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn eight_bits_are_off_by_half_a_step_of_their_row() {
        let values = [1.0, -0.5, 0.3, 100.0, 7.0, -33.3];
        let stored = StoredTensor::new("x", &[2, 3], &values, Precision::Int8).expect("stored");
        assert_eq!(stored.byte_count(), 2 * (3 + 4));
        for (row, largest) in [(0, 1.0f32), (1, 100.0)] {
            for column in 0..3 {
                let (found, exact) = (stored.values()[3 * row + column], values[3 * row + column]);
                assert!((found - exact).abs() <= 0.501 * largest / 127.0);
            }
        }
    }

    #[test]
    fn vectors_stay_f32_and_floats_round_as_their_dtype() {
        let vector = StoredTensor::new("x", &[2], &[0.1, 0.2], Precision::Int8).expect("stored");
        assert_eq!(vector.values(), [0.1, 0.2]);
        let values = [1.003, -2.0];
        let of = |precision| StoredTensor::new("x", &[1, 2], &values, precision).expect("stored");
        assert_eq!(of(Precision::F32).values(), values);
        assert_eq!(of(Precision::Bf16).values(), [1.0, -2.0]);
        assert_eq!(of(Precision::F16).values(), [1.002_929_7, -2.0]);
    }

    #[test]
    fn a_row_of_zeros_stays_zero() {
        let stored = StoredTensor::new("x", &[2, 2], &[0.0; 4], Precision::Int8).expect("stored");
        assert_eq!(stored.values(), [0.0; 4]);
    }
}
