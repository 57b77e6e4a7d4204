use burn::module::{ModuleVisitor, ParamId};
use burn::tensor::Gradients;

use super::*;
use crate::{
    EigenloraxStart, MixerInit, compose, eigenlorax, eigenmix, flattened_eigenlorax, lora, moslora,
};
use eigenmix_adapter::LoraModule;

const SHAPE: [usize; 2] = [7, 6];
const RANK: usize = 4;

fn matrix(rows: usize, cols: usize, phase: f32) -> Matrix {
    Matrix::from_fn(rows, cols, |row, col| {
        ((row * 5 + col * 3) as f32 + phase).sin()
    })
}

fn every_method() -> Vec<Update> {
    let [d_out, d_in] = SHAPE;
    let (left, right) = (matrix(d_out, 3, 0.1), matrix(d_in, 5, 0.2));
    let member =
        |rank: usize| LoraModule::new(matrix(d_out, rank, 0.6), matrix(rank, d_in, 0.7), 0.5);
    let members = [member(2), member(1)];
    let mut updates = vec![
        compose(
            &[(0, &members[0]), (2, &members[1])],
            &[0.5, 0.1, -0.25],
            false,
            2.0,
            0.0,
        ),
        lora("m", 1, SHAPE, RANK, 0.75, 0.0),
        moslora("m", 1, SHAPE, RANK, 0.75, 0.0, MixerInit::Kaiming),
        moslora("m", 1, SHAPE, RANK, 0.75, 0.0, MixerInit::Orthogonal),
        moslora("m", 1, SHAPE, RANK, 0.75, 0.0, MixerInit::TwoSubspaces),
        eigenlorax(
            "m",
            1,
            left.clone(),
            right.clone(),
            2,
            0.75,
            0.0,
            EigenloraxStart::Random,
        ),
        flattened_eigenlorax(
            "m",
            1,
            matrix(d_out, 3 * 2, 0.8),
            matrix(d_in, 2 * 2, 0.9),
            2,
            0.75,
            0.0,
            EigenloraxStart::Random,
        ),
        eigenmix(left, right, 0.75, 0.0, Some(matrix(3, 5, 0.4))),
    ];
    for update in &mut updates {
        // LoRA's B starts at zero: give it values, or every identity would hold trivially.
        if update.left.trained {
            update.left.matrix = matrix(d_out, RANK, 0.3);
        }
    }
    updates
}

fn base(device: &Device) -> AdaptedLinear {
    let [d_out, _] = SHAPE;
    AdaptedLinear::frozen(
        tensor(&matrix(SHAPE[0], SHAPE[1], 0.5), device),
        Some(Tensor::from_data(
            TensorData::new(vec![0.25f32; d_out], [d_out]),
            device,
        )),
    )
}

fn layer(update: &Update, device: &Device) -> (AdaptedLinear, ParameterNames) {
    let mut names = ParameterNames::default();
    (base(device).with_update(update, "m", &mut names), names)
}

fn largest_difference(left: Tensor<3>, right: Tensor<3>) -> f32 {
    (left - right).abs().max().into_scalar::<f32>()
}

fn input(device: &Device) -> Tensor<3> {
    let values = matrix(2 * 3, SHAPE[1], 0.9);
    tensor(&values, device).reshape([2, 3, SHAPE[1]])
}

#[test]
fn many_rows_give_what_few_rows_give() {
    let device = Device::flex();
    // A mixer is multiplied into a factor only where there are enough rows.
    let rows = 2 * FEW_ROWS;
    let many = tensor(&matrix(rows, SHAPE[1], 0.9), &device);
    for update in every_method() {
        let (layer, _) = layer(&update, &device);
        let whole = layer.forward(many.clone());
        let parts = many.clone().chunk(rows / 4, 0);
        let parts = parts.into_iter().map(|part| layer.forward(part));
        let difference = whole - Tensor::cat(parts.collect(), 0);
        let difference = difference.abs().max().into_scalar::<f32>();
        // f32 products of a few terms of size one, in another order.
        assert!(difference < 1e-5, "{difference}: {update:?}");
    }
}

#[test]
fn layers_together_give_the_gradients_of_each_alone() {
    let device = Device::flex().autodiff();
    let rows = 2 * FEW_ROWS;
    let [d_out, d_in] = SHAPE;
    let updates = every_method();
    let layers: Vec<AdaptedLinear> = updates[1..4]
        .iter()
        .map(|update| layer(update, &device).0)
        .collect();
    let run = |operation: &dyn Fn(Tensor<2>, Tensor<2>) -> Tensor<2>| {
        let input = tensor(&matrix(rows, d_in, 0.9), &device).require_grad();
        let residual = tensor(&matrix(rows, 3 * d_out, 0.8), &device).require_grad();
        let output = operation(input.clone(), residual.clone());
        let gradients = output.clone().square().mean().backward();
        let mut found = vec![output.inner()];
        let factors = layers.iter().flat_map(|layer| {
            let update = layer.update.as_ref().expect("an update");
            [update.left.val(), update.right.val()]
        });
        found.extend(factors.map(|factor| factor.grad(&gradients).expect("a gradient")));
        found.extend([input, residual].map(|one| one.grad(&gradients).expect("a gradient")));
        found
    };
    let together = run(&|input, residual| {
        let layers: Vec<&AdaptedLinear> = layers.iter().collect();
        AdaptedLinear::forward_together(&layers, input, Some(residual))
    });
    let alone = run(&|input, residual| {
        let outputs = layers.iter().map(|layer| layer.forward(input.clone()));
        residual + Tensor::cat(outputs.collect(), 1)
    });
    for (found, expected) in together.into_iter().zip(alone) {
        // f32 sums over at most 64 terms of size one.
        let difference = (found - expected).abs().max().into_scalar::<f32>();
        assert!(difference < 1e-5, "{difference}");
    }
}

#[test]
fn every_method_equals_its_fold_into_plain_factors() {
    let device = Device::flex();
    for update in every_method() {
        let folded = Update::from_lora(&update.fold());
        let (layer, folded) = (layer(&update, &device).0, layer(&folded, &device).0);
        let without = base(&device).forward(input(&device));
        let output = layer.forward(input(&device));
        // f32 products of a few terms of size one; the update itself is far larger.
        let difference = largest_difference(output.clone(), folded.forward(input(&device)));
        assert!(difference < 1e-5, "{difference}: {update:?}");
        // The update itself is a thousand times larger than that.
        let effect = largest_difference(output, without);
        assert!(effect > 0.01, "{effect}: {update:?}");
    }
}

#[test]
fn a_layer_adds_its_dense_update_to_the_base_weight() {
    let device = Device::flex();
    for update in every_method() {
        let dense = update.fold().update();
        let weight = matrix(SHAPE[0], SHAPE[1], 0.5);
        let adapted = Matrix::from_fn(SHAPE[0], SHAPE[1], |row, col| {
            weight.get(row, col) + dense.get(row, col)
        });
        let expected =
            input(&device).matmul(tensor(&adapted, &device).transpose().unsqueeze::<3>()) + 0.25;
        let output = layer(&update, &device).0.forward(input(&device));
        let difference = largest_difference(output, expected);
        assert!(difference < 2e-5, "{difference}");
    }
}

#[test]
fn an_identity_mixer_is_lora() {
    let device = Device::flex();
    let mut lora = lora("m", 1, SHAPE, RANK, 0.75, 0.0);
    lora.left.matrix = matrix(SHAPE[0], RANK, 0.3);
    let mut mixed = moslora("m", 1, SHAPE, RANK, 0.75, 0.0, MixerInit::Identity);
    mixed.left.matrix = matrix(SHAPE[0], RANK, 0.3);
    let difference = largest_difference(
        layer(&lora, &device).0.forward(input(&device)),
        layer(&mixed, &device).0.forward(input(&device)),
    );
    assert!(difference < 1e-6, "{difference}");
}

/// The parameters that have a gradient.
struct WithGradient<'a> {
    gradients: &'a Gradients,
    ids: Vec<ParamId>,
}

impl ModuleVisitor for WithGradient<'_> {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        if param.val().grad(self.gradients).is_some() {
            self.ids.push(param.id);
        }
    }
}

#[test]
fn only_trained_factors_get_gradients_and_names() {
    let device = Device::flex().autodiff();
    for update in every_method() {
        let (layer, names) = layer(&update, &device);
        let gradients = layer.forward(input(&device)).square().mean().backward();
        let update_layer = layer.update.as_ref().unwrap();
        let mut with_gradient = WithGradient {
            gradients: &gradients,
            ids: Vec::new(),
        };
        layer.visit(&mut with_gradient);
        assert_eq!(with_gradient.ids.len(), names.len());
        assert!(with_gradient.ids.iter().all(|&id| names.get(id).is_some()));
        let [left, right] = [&update_layer.left, &update_layer.right]
            .map(|param| param.val().grad(&gradients).is_some());
        assert_eq!((left, right), (update.left.trained, update.right.trained));
        let trained = update
            .factors()
            .iter()
            .filter(|(_, factor)| factor.trained)
            .count();
        assert_eq!(names.len(), trained);
        let values = names.values_of(&layer);
        assert_eq!(values, update.values("m"));
        let moved: crate::TrainedValues = values
            .into_iter()
            .map(|(name, mut value)| {
                value.values.iter_mut().for_each(|number| *number += 1.0);
                (name, value)
            })
            .collect();
        let layer = names.with_values(layer, &moved).unwrap();
        assert_eq!(names.values_of(&layer), moved);
    }
}

#[test]
fn gradients_agree_with_finite_differences() {
    let device = Device::flex().autodiff();
    let loss = |update: &Update| {
        let (layer, names) = layer(update, &device);
        let loss = layer.forward(input(&device)).square().mean();
        (loss, layer, names)
    };
    for update in every_method() {
        let (value, layer, names) = loss(&update);
        let gradients = value.backward();
        let mut analytic = std::collections::BTreeMap::new();
        let mut collect = Collect {
            gradients: &gradients,
            names: &names,
            found: &mut analytic,
        };
        layer.visit(&mut collect);
        for (name, value) in update.values("m") {
            for index in [0, value.values.len() - 1] {
                let shifted = |step: f32| {
                    let mut values = update.values("m");
                    values.get_mut(&name).unwrap().values[index] += step;
                    let update = update.clone().with_values("m", &values).unwrap();
                    f64::from(loss(&update).0.into_scalar::<f32>())
                };
                // The loss is a polynomial of size ~10: at this step truncation and f32
                // rounding both stay below a percent of a typical gradient.
                let step = 1e-2;
                let numeric = (shifted(step) - shifted(-step)) / (2.0 * f64::from(step));
                let found = f64::from(analytic[&name][index]);
                assert!(
                    (numeric - found).abs() < 2e-2 * (1.0 + numeric.abs()),
                    "{name}[{index}]: {found} against {numeric}"
                );
            }
        }
    }
}

struct Collect<'a> {
    gradients: &'a burn::tensor::Gradients,
    names: &'a ParameterNames,
    found: &'a mut std::collections::BTreeMap<String, Vec<f32>>,
}

impl burn::module::ModuleVisitor for Collect<'_> {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        if let (Some(name), Some(gradient)) =
            (self.names.get(param.id), param.val().grad(self.gradients))
        {
            let values = gradient.into_data().try_to_vec().unwrap();
            self.found.insert(name.to_owned(), values);
        }
    }
}
