//! Matrices in every form of few bits, for tests.

use bytes::Bytes;
use eigenmix_quant::{
    CodebookMatrix, EncodedMatrix, Encoding, GroupedMatrix, Rounding, RowScaledMatrix,
};

/// Bytes that look random, the same everywhere.
fn bytes(count: usize) -> Vec<u8> {
    (0..count).map(|index| (index * 151 % 253) as u8).collect()
}

/// One matrix of each form, `[d_out, d_in]`, whose values are about one in size.
pub fn every_form(d_out: usize, d_in: usize) -> Vec<EncodedMatrix> {
    let mut forms = Vec::new();
    for encoding in Encoding::all() {
        let Some(row) = encoding.row_bytes(d_in) else {
            continue;
        };
        let mut bytes = bytes(d_out * row);
        // Scales of any bits would be anything: infinite, for one.
        let scales: &[usize] = match encoding {
            Encoding::F32 => &[2],
            Encoding::F16 | Encoding::Bf16 => &[0],
            Encoding::Q4_1 | Encoding::Q5_1 | Encoding::Q4K | Encoding::Q5K => &[0, 2],
            Encoding::Q2K => &[80, 82],
            Encoding::Q3K => &[108],
            Encoding::Q6K => &[208],
            _ => &[0],
        };
        for block in bytes.chunks_exact_mut(encoding.block_bytes()) {
            for &place in scales {
                // The exponent of a small number in f16, and of one near 1 in bf16 and f32.
                block[place + 1] = match encoding {
                    Encoding::F32 | Encoding::Bf16 => 0x3f,
                    _ => 0x20 | block[place + 1] & 3,
                };
            }
        }
        forms.push(EncodedMatrix::blocks(encoding, [d_out, d_in], bytes.into()).expect("a matrix"));
    }
    let wave = |count: usize| -> Vec<f32> {
        (0..count)
            .map(|index| (index as f32 * 0.7).sin() * 0.1 + 0.2)
            .collect()
    };
    let count = d_out * d_in;
    let codes = |count| Bytes::from(bytes(count));
    let table = std::array::from_fn(|index| index as f32 / 8.0 - 1.0);
    for rounding in [Rounding::None, Rounding::Bf16] {
        let (codes, scales) = (codes(count.div_ceil(2)), wave(count.div_ceil(64)));
        let shape = [d_out, d_in];
        let matrix = CodebookMatrix::new("NF4", shape, codes, table, 64, scales, rounding);
        forms.push(matrix.expect("a matrix").into());
    }
    forms.push(
        RowScaledMatrix::new([d_out, d_in], codes(count), wave(d_out))
            .expect("a matrix")
            .into(),
    );
    if d_in.is_multiple_of(2) {
        let groups = d_in.div_ceil(32);
        let turned: Vec<u32> = (0..d_in).map(|col| (col * 7 % groups) as u32).collect();
        for group_of in [None, Some(turned)] {
            let scales = [wave(d_out * groups), wave(d_out * groups)];
            let matrix = GroupedMatrix::new(
                "GPTQ",
                [d_out, d_in],
                codes(count / 2),
                32,
                scales,
                group_of,
            );
            forms.push(matrix.expect("a matrix").into());
        }
    }
    forms
}
