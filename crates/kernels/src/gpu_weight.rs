//! Weights in few bits on a GPU, as the bytes that files have.

use burn::tensor::Device;
use eigenmix_cube::{BlockFormat, BlockParts, CodebookParts, GroupedParts, PackedMatrix};
use eigenmix_quant::{EncodedMatrix, Encoding, IQ4_VALUES, Rounding};

/// The weight on the device; `None` if its values are as wide as half precision or wider.
///
/// - device: a GPU, without autodiff
pub(crate) fn packed(matrix: &EncodedMatrix, device: &Device) -> Option<PackedMatrix> {
    let shape = matrix.shape();
    if let Some((encoding, bytes)) = matrix.block_bytes() {
        let format = format(encoding)?;
        let parts = BlockParts {
            format,
            bytes,
            table: &IQ4_VALUES,
        };
        return Some(PackedMatrix::blocks(shape, parts, device));
    }
    if let Some(codebook) = matrix.codebook() {
        let (codes, table, scales) = codebook.parts();
        let parts = CodebookParts {
            codes,
            table,
            scales,
            block: codebook.block(),
            rounded: match codebook.rounding() {
                Rounding::None => 0,
                Rounding::F16 => 13,
                Rounding::Bf16 => 16,
            },
        };
        return Some(PackedMatrix::codebook(shape, parts, device));
    }
    if let Some(matrix) = matrix.row_scaled() {
        let (codes, largest) = matrix.parts();
        return Some(PackedMatrix::row_scaled(shape, codes, largest, device));
    }
    let grouped = matrix.grouped()?;
    let (scales, offsets) = grouped.scales_and_offsets();
    let parts = GroupedParts {
        codes: grouped.codes(),
        group: grouped.group(),
        scales,
        offsets,
        group_of: grouped.group_of(),
    };
    Some(PackedMatrix::grouped(shape, parts, device))
}

/// `None` for values without blocks.
fn format(encoding: Encoding) -> Option<BlockFormat> {
    Some(match encoding {
        Encoding::F32 | Encoding::F16 | Encoding::Bf16 => return None,
        Encoding::Q4_0 => BlockFormat::Q4_0,
        Encoding::Q4_1 => BlockFormat::Q4_1,
        Encoding::Q5_0 => BlockFormat::Q5_0,
        Encoding::Q5_1 => BlockFormat::Q5_1,
        Encoding::Q8_0 => BlockFormat::Q8_0,
        Encoding::Q2K => BlockFormat::Q2K,
        Encoding::Q3K => BlockFormat::Q3K,
        Encoding::Q4K => BlockFormat::Q4K,
        Encoding::Q5K => BlockFormat::Q5K,
        Encoding::Q6K => BlockFormat::Q6K,
        Encoding::Iq4Nl => BlockFormat::Iq4Nl,
        Encoding::Iq4Xs => BlockFormat::Iq4Xs,
    })
}
