use burn::tensor::{Device, Tensor, TensorData};
use bytes::Bytes;
use eigenmix_quant::{
    CodebookMatrix, EncodedMatrix, Encoding, GroupedMatrix, Rounding, RowScaledMatrix,
};

use crate::unit::tests::SameUnit;
use crate::waves::of_size_one as values;
use crate::{FrozenWeight, Weight, linear_cross_entropy, sum_of_rows};

/// Bytes that look random, the same everywhere.
fn bytes(count: usize) -> Vec<u8> {
    (0..count).map(|index| (index * 151 % 253) as u8).collect()
}

/// One matrix of each form, `[d_out, d_in]`, whose values are about one in size.
fn every_form(d_out: usize, d_in: usize) -> Vec<EncodedMatrix> {
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
        forms.push(EncodedMatrix::blocks(encoding, [d_out, d_in], bytes.into()).unwrap());
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
        forms.push(matrix.unwrap().into());
    }
    forms.push(
        RowScaledMatrix::new([d_out, d_in], codes(count), wave(d_out))
            .unwrap()
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
            forms.push(matrix.unwrap().into());
        }
    }
    forms
}

/// Few rows; panels of each thread; shared panels. Widths with and without the blocks of 256, and one
/// that no block divides.
const SIZES: [(usize, usize, usize); 6] = [
    (1, 70, 2304),
    (5, 33, 45),
    (20, 100, 256),
    (90, 49, 1600),
    (300, 130, 1024),
    (260, 97, 77),
];

fn check() {
    for (rows, d_out, d_in) in SIZES {
        for matrix in every_form(d_out, d_in) {
            let name = matrix.name();
            let device = Device::flex().autodiff();
            let wide = TensorData::new(matrix.to_f32(), [d_out, d_in]);
            let wide = Tensor::<2>::from_data(wide, &device);
            assert!(
                wide.clone().abs().max().into_scalar::<f32>() < 100.0,
                "{name}"
            );
            let run = |weight: FrozenWeight| {
                let input = values(rows, d_in, 0.0, &device).require_grad();
                let output = Weight::Frozen(weight).product(input.clone());
                let weights = values(rows, d_out, 1.0, &device);
                let gradients = (output.clone() * weights).sum().backward();
                [output.inner(), input.grad(&gradients).unwrap()]
            };
            let size = wide.clone().abs().max().into_scalar::<f32>();
            let found = run(FrozenWeight::encoded(matrix, &device));
            for (found, expected) in found.into_iter().zip(run(wide.into())) {
                let difference = (found - expected).abs().max().into_scalar::<f32>();
                let count = (d_in.max(d_out)) as f32;
                assert!(
                    difference < 2e-6 * size * count,
                    "{name} {rows} {d_out} {d_in}: {difference}"
                );
            }
        }
    }
}

#[test]
fn a_weight_of_any_form_computes_as_its_decoded_self() {
    check();
}

#[test]
fn narrower_vectors_compute_the_same() {
    let _unit = SameUnit::without_avx512();
    check();
}

#[test]
fn any_number_of_threads_computes_the_same_bits() {
    let _unit = SameUnit::of_machine();
    let device = Device::flex().autodiff();
    for (rows, d_out, d_in) in SIZES {
        for matrix in every_form(d_out, d_in) {
            let on_threads = |threads: usize| {
                let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build();
                pool.expect("threads").install(|| {
                    let weight = FrozenWeight::encoded(matrix.clone(), &device);
                    let input = values(rows, d_in, 0.0, &device).require_grad();
                    let output = Weight::Frozen(weight).product(input.clone());
                    let gradients = (output.clone() * output.clone()).sum().backward();
                    let gradient = input.grad(&gradients).unwrap().into_data();
                    (output.into_data(), gradient)
                })
            };
            assert_eq!(on_threads(1), on_threads(3));
        }
    }
}

#[test]
fn a_table_of_any_form_gives_rows_and_tied_logits() {
    let device = Device::flex().autodiff();
    for matrix in every_form(70, 256) {
        let wide = TensorData::new(matrix.to_f32(), [70, 256]);
        let wide = Weight::Frozen(Tensor::<2>::from_data(wide, &device).into());
        let table = Weight::Frozen(FrozenWeight::encoded(matrix, &device));
        let indices = [69, 0, 3, 3];
        let difference = sum_of_rows(&[(&table, &indices)]) - sum_of_rows(&[(&wide, &indices)]);
        assert_eq!(difference.abs().max().into_scalar::<f32>(), 0.0);
        let run = |table: &Weight| {
            let hidden = (values(4, 256, 1.0, &device) * 0.1).require_grad();
            let loss = linear_cross_entropy(hidden.clone(), table, &indices, None, 0.0);
            let gradients = loss.backward();
            (loss.into_scalar::<f32>(), hidden.grad(&gradients).unwrap())
        };
        let ((loss, gradient), (expected, slope)) = (run(&table), run(&wide));
        assert!(
            (loss - expected).abs() < 1e-4 * expected.abs().max(1.0),
            "{loss} {expected}"
        );
        let difference = (gradient - slope).abs().max().into_scalar::<f32>();
        assert!(difference < 1e-4, "{difference}");
    }
}
