use burn::module::{Module, ModuleVisitor, Param};
use burn::tensor::{Device, FloatDType, Int, Tensor, TensorData};

use crate::waves::of_size_two as values;
use crate::{FrozenWeight, Weight, linear_cross_entropy, sum_of_rows};

fn frozen(values: Tensor<2>) -> Weight {
    Weight::Frozen(FrozenWeight::from(values))
}

#[test]
fn a_half_precision_weight_computes_as_its_widened_self() {
    let device = Device::flex().autodiff();
    for stored in [FloatDType::BF16, FloatDType::F16] {
        for rows in [3, 9, 80] {
            let weights = values(rows, 170, 1.1, &device);
            for transposed in [false, true] {
                // More values than a chunk; `[d_in, d_out]` if they are to be transposed.
                let half = match transposed {
                    true => values(130, 170, 0.3, &device).cast(stored),
                    false => values(170, 130, 0.3, &device).cast(stored),
                };
                let wide = half.clone().cast(FloatDType::F32);
                let run = |kept: &Tensor<2>| {
                    let weight = FrozenWeight::from(kept.clone());
                    let weight = match transposed {
                        true => weight.transposed(),
                        false => weight,
                    };
                    assert_eq!(weight.dims(), [170, 130]);
                    let input = values(rows, 130, 0.0, &device).require_grad();
                    let output = Weight::Frozen(weight).product(input.clone());
                    let gradients = (output.clone() * weights.clone()).sum().backward();
                    [output.inner(), input.grad(&gradients).unwrap()]
                };
                for (found, expected) in run(&half).into_iter().zip(run(&wide)) {
                    // The same products in f32.
                    let difference = (found - expected).abs().max().into_scalar::<f32>();
                    assert!(difference < 1e-3, "{difference}");
                }
            }
        }
    }
}

#[test]
fn a_product_is_that_of_matrices_however_the_weight_is_kept_or_trained() {
    let device = Device::flex();
    for rows in [1, 20, 90] {
        let (input, weight) = (values(rows, 21, 0.1, &device), values(33, 21, 0.7, &device));
        let expected = input.clone().matmul(weight.clone().transpose());
        let weights = [
            frozen(weight.clone()),
            Weight::Frozen(FrozenWeight::from(weight.clone().transpose()).transposed()),
            Weight::Trained(Param::from_tensor(weight.clone())),
        ];
        for weight in weights {
            assert_eq!(weight.dims(), [33, 21]);
            for found in [
                weight.product(input.clone()),
                weight.composed_product(input.clone()),
            ] {
                // 21 products of size four, in another order.
                let difference = (found - expected.clone()).abs().max();
                assert!(difference.into_scalar::<f32>() < 1e-4);
            }
        }
    }
}

/// The product of rows of nine values with a weight whose rows have eight.
fn product_of_another_width(rows: usize, stored: FloatDType) {
    let device = Device::flex();
    let weight = frozen(values(12, 8, 0.3, &device).cast(stored));
    weight.product(values(rows, 9, 0.0, &device));
}

#[test]
#[should_panic(expected = "width of an input against d_in of a weight")]
fn an_input_of_another_width_is_refused_by_a_half_precision_weight() {
    // 8 · 9 values are also 9 rows of 8.
    product_of_another_width(8, FloatDType::BF16);
}

#[test]
#[should_panic(expected = "width of an input against d_in of a weight")]
fn an_input_of_another_width_is_refused_by_a_weight_in_f32() {
    product_of_another_width(8, FloatDType::F32);
}

#[test]
fn a_weight_within_a_larger_tensor_is_found() {
    let device = Device::flex();
    let whole = values(40, 21, 0.7, &device);
    for stored in [FloatDType::F32, FloatDType::BF16] {
        let part = whole.clone().cast(stored).slice([13..31, 0..21]);
        let wide = part.clone().cast(FloatDType::F32);
        let weight = frozen(part);
        for rows in [2, 70] {
            let input = values(rows, 21, 0.1, &device);
            let difference = weight.product(input.clone()) - input.matmul(wide.clone().transpose());
            assert!(difference.abs().max().into_scalar::<f32>() < 1e-4);
        }
        let indices = [17, 0, 5];
        let chosen = Tensor::<1, Int>::from_data(TensorData::from(indices), &device);
        let difference = sum_of_rows(&[(&weight, &indices)]) - wide.clone().select(0, chosen);
        assert_eq!(difference.abs().max().into_scalar::<f32>(), 0.0);
    }
}

#[test]
fn a_table_is_the_output_layer_of_tied_logits_in_any_form() {
    let device = Device::flex().autodiff();
    let table = values(50, 12, 0.4, &device);
    let targets = [3, 49, 0, 17];
    for stored in [FloatDType::F32, FloatDType::F16] {
        let kept = table.clone().cast(stored);
        let wide = kept.clone().cast(FloatDType::F32);
        let run = |weight: Weight, is_composed: bool| {
            let hidden = values(4, 12, 1.0, &device).require_grad();
            let loss = match is_composed {
                false => linear_cross_entropy(hidden.clone(), &weight, &targets, None, 0.0),
                true => {
                    let targets = TensorData::new(targets.to_vec(), [4, 1]);
                    let logits = weight.composed_product(hidden.clone());
                    let targets = Tensor::<2, Int>::from_data(targets, &device);
                    -burn::tensor::activation::log_softmax(logits, 1)
                        .gather(1, targets)
                        .mean()
                }
            };
            let gradients = loss.backward();
            (loss.into_scalar::<f32>(), hidden.grad(&gradients).unwrap())
        };
        let (loss, gradient) = run(frozen(kept), false);
        let (expected, slope) = run(Weight::Trained(Param::from_tensor(wide)), true);
        assert!((loss - expected).abs() < 1e-5 * expected);
        let difference = (gradient - slope).abs().max().into_scalar::<f32>();
        assert!(difference < 1e-5, "{difference}");
    }
}

#[test]
fn a_frozen_weight_is_a_parameter_of_its_module_and_never_trained() {
    let device = Device::flex().autodiff();
    /// How many parameters are part of a graph.
    struct Tracked(usize);
    impl ModuleVisitor for Tracked {
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            self.0 += usize::from(param.val().is_tracked());
        }
    }
    let tracked = |weight: &Weight| {
        let mut tracked = Tracked(0);
        weight.visit(&mut tracked);
        tracked.0
    };
    let weight = frozen(values(5, 3, 0.2, &device).require_grad());
    assert_eq!((weight.num_params(), tracked(&weight)), (15, 0));
    let trained = Weight::Trained(Param::from_tensor(values(5, 3, 0.2, &device)));
    assert_eq!((trained.num_params(), tracked(&trained)), (15, 1));
}
