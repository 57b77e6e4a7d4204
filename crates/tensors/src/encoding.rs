//! f32 values as the bytes of another dtype: how tensors are written in the precision that their
//! file had.

use half::{bf16, f16};
use safetensors::Dtype;

use crate::FileError;

/// The little-endian bytes of `values`, each rounded to the nearest number of `dtype`.
///
/// - tensor: the name in errors
///
/// # Errors
/// [`FileError::TooLarge`] if `dtype` has no number near a value: one that rounds to infinity, one
/// that is not finite itself, or, for an integer dtype, one outside its range or with a fraction.
/// [`FileError::NotWritable`] if `dtype` is not supported for writing.
pub fn encode(tensor: &str, values: &[f32], dtype: Dtype) -> Result<Vec<u8>, FileError> {
    let encoded = match dtype {
        Dtype::F64 => each(values, |value| float(value, f64::from(value).to_le_bytes())),
        Dtype::F32 => each(values, |value| float(value, value.to_le_bytes())),
        Dtype::F16 => each(values, |value| {
            let rounded = f16::from_f32(value);
            float(rounded.to_f32(), rounded.to_le_bytes())
        }),
        Dtype::BF16 => each(values, |value| {
            let rounded = bf16::from_f32(value);
            float(rounded.to_f32(), rounded.to_le_bytes())
        }),
        Dtype::I64 => each(values, |value| {
            let whole = value as i64;
            integer(value, whole as f64, whole.to_le_bytes())
        }),
        Dtype::I32 => each(values, |value| {
            let whole = value as i32;
            integer(value, f64::from(whole), whole.to_le_bytes())
        }),
        Dtype::I16 => each(values, |value| {
            let whole = value as i16;
            integer(value, f64::from(whole), whole.to_le_bytes())
        }),
        Dtype::U8 => each(values, |value| {
            let whole = value as u8;
            integer(value, f64::from(whole), [whole])
        }),
        _ => {
            return Err(FileError::NotWritable {
                tensor: tensor.to_owned(),
                dtype,
            });
        }
    };
    encoded.map_err(|value| FileError::TooLarge {
        tensor: tensor.to_owned(),
        value,
        dtype,
    })
}

/// Whether f16 or bf16 holds all of `values` exactly; `dtype` is one of these.
pub fn is_exact(values: &[f32], dtype: Dtype) -> bool {
    match dtype {
        Dtype::F16 => values
            .iter()
            .all(|&value| f16::from_f32(value).to_f32() == value),
        Dtype::BF16 => values
            .iter()
            .all(|&value| bf16::from_f32(value).to_f32() == value),
        _ => false,
    }
}

/// All bytes, or the first value that has none.
fn each<const WIDTH: usize>(
    values: &[f32],
    bytes: impl Fn(f32) -> Option<[u8; WIDTH]>,
) -> Result<Vec<u8>, f32> {
    let mut encoded = Vec::with_capacity(WIDTH * values.len());
    for &value in values {
        encoded.extend(bytes(value).ok_or(value)?);
    }
    Ok(encoded)
}

/// The bytes of a value that was rounded to `rounded`.
fn float<const WIDTH: usize>(rounded: f32, bytes: [u8; WIDTH]) -> Option<[u8; WIDTH]> {
    rounded.is_finite().then_some(bytes)
}

/// The bytes of `value` that became `whole` as an integer. Casts saturate, so that a difference
/// shows a value out of range as well as a fraction or NaN.
///
/// - whole: as f64, since f32 rounds the largest integers up to the value that is out of range. That
///   of i64 f64 rounds as well, so 2⁶³ is refused by itself.
fn integer<const WIDTH: usize>(value: f32, whole: f64, bytes: [u8; WIDTH]) -> Option<[u8; WIDTH]> {
    const FIRST_BEYOND_I64: f64 = 9_223_372_036_854_775_808.0;
    (f64::from(value) == whole && whole < FIRST_BEYOND_I64).then_some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_rounded_to_the_nearest_of_their_dtype() {
        let encoded = |dtype| encode("w", &[1.003], dtype).expect("bytes");
        // 1.003 lies between 1 and 1.0078125 of bf16, and between 1.00195… and 1.00293… of f16.
        assert_eq!(encoded(Dtype::BF16), [0x80, 0x3f]);
        assert_eq!(encoded(Dtype::F16), [0x03, 0x3c]);
        assert_eq!(encoded(Dtype::F32), 1.003f32.to_le_bytes());
        assert_eq!(encoded(Dtype::F64), f64::from(1.003f32).to_le_bytes());
    }

    #[test]
    fn whole_numbers_fit_integers_and_others_are_refused() {
        assert_eq!(
            encode("alpha", &[16.0, -3.0], Dtype::I16).expect("bytes"),
            [16, 0, 0xfd, 0xff]
        );
        assert_eq!(
            encode("alpha", &[16.0], Dtype::I64).expect("bytes"),
            16i64.to_le_bytes()
        );
        for (value, dtype) in [
            (0.5, Dtype::I32),
            (-1.0, Dtype::U8),
            (256.0, Dtype::U8),
            (4e9, Dtype::I32),
            (2_147_483_648.0, Dtype::I32),
            (9_223_372_036_854_775_808.0, Dtype::I64),
            (f32::INFINITY, Dtype::I64),
            (f32::NAN, Dtype::I64),
        ] {
            let error = encode("alpha", &[value], dtype).expect_err("no such integer");
            assert!(matches!(error, FileError::TooLarge { .. }), "{error}");
        }
    }

    #[test]
    fn what_a_dtype_cannot_hold_is_refused_with_the_tensor_and_the_value() {
        for (value, dtype) in [
            (70_000.0, Dtype::F16),
            (3.4e38, Dtype::BF16),
            (f32::INFINITY, Dtype::F32),
            (f32::NAN, Dtype::F64),
        ] {
            let message = encode("w", &[1.0, value], dtype)
                .expect_err("too large")
                .to_string();
            assert!(
                message.contains("`w`") && message.contains(&value.to_string()),
                "{message}"
            );
        }
    }

    #[test]
    fn a_dtype_that_is_not_written_is_named() {
        let error = encode("w", &[1.0], Dtype::F8_E4M3).expect_err("no such bytes");
        assert!(error.to_string().contains("F8_E4M3"), "{error}");
    }

    #[test]
    fn only_values_with_few_digits_are_exact() {
        assert!(is_exact(&[1.5, -0.25, 0.0], Dtype::F16));
        assert!(is_exact(&[1.5, 2f32.powi(100)], Dtype::BF16));
        assert!(!is_exact(&[1.5, 2f32.powi(100)], Dtype::F16));
        assert!(!is_exact(&[1.5, 1.003], Dtype::F16));
        assert!(!is_exact(&[f32::NAN], Dtype::BF16));
        assert!(!is_exact(&[1.5], Dtype::F32));
    }
}
