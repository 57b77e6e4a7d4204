//! A frozen weight in few bits on a device without kernels: decoded by Burn's operations where it is used.

use burn::tensor::{Device, Int, Tensor, TensorData};
use eigenmix_quant::EncodedMatrix;

/// W `[d_out, d_in]` as codes and scales; what is decoded lives as long as one product.
#[derive(Clone, Debug)]
pub(crate) enum PackedWeight {
    Composed(ComposedWeight),
    #[cfg(feature = "gpu")]
    Launched(eigenmix_cube::PackedMatrix),
}

impl PackedWeight {
    /// The weight on the device; `None` if its form is one that only the host decodes.
    ///
    /// - device: without autodiff
    pub fn new(matrix: &EncodedMatrix, device: &Device) -> Option<Self> {
        #[cfg(feature = "gpu")]
        if crate::computes_later(device) {
            return eigenmix_cube::PackedMatrix::of(matrix, device).map(Self::Launched);
        }
        ComposedWeight::new(matrix, device).map(Self::Composed)
    }

    pub fn dims(&self) -> [usize; 2] {
        match self {
            Self::Composed(weight) => weight.shape,
            #[cfg(feature = "gpu")]
            Self::Launched(weight) => weight.dims(),
        }
    }

    /// W in f32.
    pub fn decoded(&self) -> Tensor<2> {
        match self {
            Self::Composed(weight) => weight.decoded(),
            #[cfg(feature = "gpu")]
            Self::Launched(weight) => weight.decoded(),
        }
    }

    /// Rows of W in f32.
    ///
    /// - indices: `[rows]`
    /// - output: `[rows, d_in]`
    pub fn decoded_rows(&self, indices: Tensor<1, Int>) -> Tensor<2> {
        match self {
            Self::Composed(weight) => weight.decoded().select(0, indices),
            #[cfg(feature = "gpu")]
            Self::Launched(weight) => weight.decoded_rows(indices),
        }
    }
}

/// A weight that Burn's operations decode.
#[derive(Clone, Debug)]
pub(crate) struct ComposedWeight {
    shape: [usize; 2],
    /// The codes of the flattened matrix: `[words]`, of 32 bits each.
    words: Tensor<1, Int>,
    /// Where in a word its codes begin: `[1, codes of a word]`.
    shifts: Tensor<2, Int>,
    codes: Codes,
    /// Of each block of values of the flattened matrix: `[blocks, 1]`.
    scales: Tensor<2>,
}

#[derive(Clone, Debug)]
enum Codes {
    /// Four bits: which of sixteen values.
    Table(Box<Tensor<1>>),
    /// Eight bits with a sign: a share of 127.
    Shares,
}

impl ComposedWeight {
    fn new(matrix: &EncodedMatrix, device: &Device) -> Option<Self> {
        let shape @ [rows, cols] = matrix.shape();
        let column = |values: &[f32]| {
            Tensor::<2>::from_data(TensorData::new(values.to_vec(), [values.len(), 1]), device)
        };
        if let Some(codebook) = matrix.codebook() {
            let (codes, table, scales) = codebook.unrounded_parts()?;
            let is_whole = (rows * cols).is_multiple_of(codebook.block());
            return is_whole.then(|| Self {
                shape,
                words: words(codes, device),
                // The first of two codes is in the high half of a byte.
                shifts: shifts([4, 0, 12, 8, 20, 16, 28, 24], device),
                codes: Codes::Table(Box::new(Tensor::from_data(*table, device))),
                scales: column(scales),
            });
        }
        let (codes, largest) = matrix.row_scaled()?.parts();
        codes.len().is_multiple_of(4).then(|| Self {
            shape,
            words: words(codes, device),
            shifts: shifts([0, 8, 16, 24], device),
            codes: Codes::Shares,
            scales: column(largest),
        })
    }

    fn decoded(&self) -> Tensor<2> {
        let ([words], [_, each]) = (self.words.dims(), self.shifts.dims());
        let [blocks, _] = self.scales.dims();
        let [rows, cols] = self.shape;
        let block = rows * cols / blocks;
        let spread = self.words.clone().reshape([words, 1]).expand([words, each]);
        let codes = spread.bitwise_right_shift(self.shifts.clone().expand([words, each]));
        let scales = self.scales.clone();
        let values = match &self.codes {
            Codes::Table(table) => {
                let codes = codes.bitwise_and_scalar(15).reshape([words * each]);
                Tensor::clone(table)
                    .select(0, codes)
                    .reshape([blocks, block])
                    * scales
            }
            Codes::Shares => {
                // The sign of a byte becomes that of the number.
                let codes = codes.bitwise_and_scalar(255).bitwise_xor_scalar(128) - 128;
                codes.float().reshape([blocks, block]) * scales / 127.0
            }
        };
        values.reshape(self.shape)
    }
}

/// Bytes as words, the first byte lowest.
fn words(bytes: &[u8], device: &Device) -> Tensor<1, Int> {
    let words = bytes.chunks(4).map(|bytes| {
        let mut word = [0; 4];
        word[..bytes.len()].copy_from_slice(bytes);
        i32::from_le_bytes(word)
    });
    let words: Vec<i32> = words.collect();
    let count = words.len();
    Tensor::from_data(TensorData::new(words, [count]), device)
}

fn shifts<const N: usize>(shifts: [i32; N], device: &Device) -> Tensor<2, Int> {
    Tensor::from_data(TensorData::new(shifts.to_vec(), [1, N]), device)
}

#[cfg(test)]
mod tests {
    use super::*;
    use eigenmix_quant::{int8, nf4};

    #[test]
    fn a_weight_is_decoded_to_the_values_of_the_host() {
        let [rows, cols] = [12, 64];
        let values: Vec<f32> = (0..rows * cols)
            .map(|i| (i as f32 * 0.37).sin() * 2.0)
            .collect();
        let nf4: EncodedMatrix = nf4(&values, [rows, cols]).expect("a matrix").into();
        let int8: EncodedMatrix = int8(&values, [rows, cols]).expect("a matrix").into();
        for matrix in [nf4, int8] {
            let packed = PackedWeight::new(&matrix, &Device::flex()).expect("of the device");
            assert_eq!(packed.dims(), [rows, cols]);
            let found: Vec<f32> = packed.decoded().into_data().try_to_vec().expect("f32");
            assert_eq!(found, matrix.to_f32(), "{}", matrix.name());
        }
    }
}
