use crate::every_form::every_form;
use crate::unit::tests::SameUnit;
use crate::waves::of_size_one as values;
use crate::{FrozenWeight, Weight, linear_cross_entropy, sum_of_rows};
use burn::tensor::{Device, Tensor, TensorData};

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
