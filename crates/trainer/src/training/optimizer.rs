//! AdamW over the trained parameters, with its state keyed by their names.

use std::collections::BTreeMap;

use burn::module::{Module, ModuleMapper, ModuleVisitor, Param};
use burn::tensor::{Gradients, Tensor, TensorData};
use eigenmix_kernels::{AdamWState, AdamWStep, computes_later, sum_of_squares};
use eigenmix_moslora::{ParameterNames, TrainedValues};
use eigenmix_tensors::HostTensor;

use super::flat_adamw::FlatAdamW;
use crate::TrainerError;
use crate::config::TrainingConfig;

/// The gradients of the trained parameters, flattened, by name.
pub type NamedGradients = BTreeMap<String, Tensor<1>>;

/// AdamW with decoupled weight decay (arXiv 1711.05101), as torch.optim.AdamW computes it:
///
/// ```text
/// m ← β₁ m + (1 − β₁) g        v ← β₂ v + (1 − β₂) g²
/// θ ← θ − η λ θ − η · (m / (1 − β₁ᵗ)) / (√(v / (1 − β₂ᵗ)) + ε)
/// ```
pub struct AdamW {
    beta_1: f64,
    beta_2: f64,
    epsilon: f64,
    weight_decay: f64,
    /// t, the number of steps taken.
    steps: i32,
    moments: BTreeMap<String, Moments>,
    /// Of parameters that take their steps together, instead of `moments`.
    flat: Option<FlatAdamW>,
}

pub(super) struct Moments {
    pub first: Tensor<1>,
    pub second: Tensor<1>,
}

impl AdamW {
    pub fn new(config: &TrainingConfig) -> Self {
        Self {
            beta_1: config.beta_1,
            beta_2: config.beta_2,
            epsilon: config.epsilon,
            weight_decay: config.weight_decay,
            steps: 0,
            moments: BTreeMap::new(),
            flat: None,
        }
    }

    /// Takes a step by gradients that are scaled down to the norm `limit` if theirs is larger (0: never);
    /// parameters without a gradient stay as they are. On a GPU nothing is waited for.
    ///
    /// - rate: the learning rate of the parameter of that name, the same for all of a [kind](ParameterNames::kind)
    pub fn clipped_step<M: Module>(
        &mut self,
        module: M,
        names: &ParameterNames,
        mut gradients: NamedGradients,
        limit: f64,
        rate: impl Fn(&str) -> f64,
    ) -> M {
        let device = gradients.values().next().map(Tensor::device);
        if !device.is_some_and(|device| computes_later(&device)) {
            clip(&mut gradients, 1.0, limit);
            return self.step(module, names, gradients, rate);
        }
        self.flat_step(module, names, gradients, limit, rate)
    }

    /// [`AdamW::clipped_step`] of all parameters together.
    fn flat_step<M: Module>(
        &mut self,
        module: M,
        names: &ParameterNames,
        gradients: NamedGradients,
        limit: f64,
        rate: impl Fn(&str) -> f64,
    ) -> M {
        self.steps += 1;
        let fitting = self.flat.take_if(|flat| flat.has(&gradients));
        let mut flat = fitting.unwrap_or_else(|| {
            self.separate();
            FlatAdamW::new(&module, names, &gradients, &mut self.moments)
        });
        let step = |rate: f64| self.at_rate(rate);
        let module = flat.step(module, names, gradients, limit, step, rate);
        self.flat = Some(flat);
        module
    }

    /// Keeps the moments of each parameter by itself.
    fn separate(&mut self) {
        if let Some(flat) = self.flat.take() {
            self.moments.extend(flat.into_moments());
        }
    }

    fn at_rate(&self, rate: f64) -> AdamWStep {
        AdamWStep {
            beta_1: self.beta_1,
            beta_2: self.beta_2,
            epsilon: self.epsilon,
            rate,
            weight_decay: self.weight_decay,
            step: self.steps,
        }
    }

    /// Takes a step; parameters without a gradient stay as they are.
    ///
    /// - rate: the learning rate of the parameter of that name
    pub fn step<M: Module>(
        &mut self,
        module: M,
        names: &ParameterNames,
        gradients: NamedGradients,
        rate: impl Fn(&str) -> f64,
    ) -> M {
        self.separate();
        self.steps += 1;
        module.map(&mut Step {
            optimizer: self,
            names,
            gradients,
            rate,
            stepped: BTreeMap::new(),
        })
    }

    /// m as `NAME/first` and v as `NAME/second`, for a checkpoint.
    pub fn state(&self) -> TrainedValues {
        let value = |tensor: &Tensor<1>| {
            let values: Vec<f32> = tensor
                .to_data()
                .convert::<f32>()
                .try_into_vec()
                .expect("converted to f32");
            HostTensor {
                shape: vec![values.len()],
                values,
            }
        };
        let separate = self.moments.iter().flat_map(|(name, moments)| {
            [
                (format!("{name}/first"), value(&moments.first)),
                (format!("{name}/second"), value(&moments.second)),
            ]
        });
        let flat = self.flat.as_ref().map(FlatAdamW::values);
        separate.chain(flat.unwrap_or_default()).collect()
    }

    /// Continues from a checkpoint's `state` after `steps` steps.
    ///
    /// - device: that of the parameters, without autodiff
    ///
    /// # Errors
    /// If one of the two moments of a parameter is missing.
    pub fn restore(
        &mut self,
        state: &TrainedValues,
        steps: usize,
        device: &burn::tensor::Device,
    ) -> Result<(), TrainerError> {
        let tensor = |value: &HostTensor| {
            let data = TensorData::new(value.values.clone(), [value.values.len()]);
            Tensor::<1>::from_data(data, device)
        };
        self.steps = steps as i32;
        self.moments.clear();
        self.flat = None;
        for (key, first) in state {
            let Some(name) = key.strip_suffix("/first") else {
                continue;
            };
            let second = state.get(&format!("{name}/second")).ok_or_else(|| {
                eigenmix_moslora::ParameterError::Missing(format!("{name}/second"))
            })?;
            let moments = Moments {
                first: tensor(first),
                second: tensor(second),
            };
            self.moments.insert(name.to_owned(), moments);
        }
        Ok(())
    }
}

struct Step<'a, F> {
    optimizer: &'a mut AdamW,
    names: &'a ParameterNames,
    gradients: NamedGradients,
    rate: F,
    /// The values after the step, for further copies of a parameter that modules share.
    stepped: BTreeMap<String, Tensor<1>>,
}

impl<F: Fn(&str) -> f64> ModuleMapper for Step<'_, F> {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let Some(name) = self.names.get(param.id) else {
            return param;
        };
        if let Some(value) = self.stepped.get(name) {
            let value = value.clone();
            return param
                .map(|tensor| Tensor::from_inner(value.reshape(tensor.dims())).require_grad());
        }
        let Some(gradient) = self.gradients.remove(name) else {
            return param;
        };
        let optimizer = &mut *self.optimizer;
        let step = optimizer.at_rate((self.rate)(name));
        let Moments { first, second } = optimizer.moments.remove(name).unwrap_or_else(|| Moments {
            first: gradient.zeros_like(),
            second: gradient.zeros_like(),
        });
        let mut moments = None;
        let param = param.map(|tensor| {
            let shape = tensor.dims();
            let [count] = gradient.dims();
            let parameter = tensor.inner().reshape([count]);
            let state = AdamWState {
                parameter,
                first,
                second,
            };
            let AdamWState {
                parameter,
                first,
                second,
            } = step.apply(state, gradient);
            moments = Some(Moments { first, second });
            if self.names.is_shared(name) {
                self.stepped.insert(name.to_owned(), parameter.clone());
            }
            Tensor::from_inner(parameter.reshape(shape)).require_grad()
        });
        if let Some(moments) = moments {
            self.optimizer.moments.insert(name.to_owned(), moments);
        }
        param
    }
}

/// Takes the gradients of the named parameters out of a backward pass.
pub fn named_gradients<M: Module>(
    module: &M,
    names: &ParameterNames,
    gradients: &mut Gradients,
) -> NamedGradients {
    let mut collector = Collector {
        names,
        gradients,
        found: BTreeMap::new(),
    };
    module.visit(&mut collector);
    collector.found
}

struct Collector<'a> {
    names: &'a ParameterNames,
    gradients: &'a mut Gradients,
    found: NamedGradients,
}

impl ModuleVisitor for Collector<'_> {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        let Some(name) = self.names.get(param.id) else {
            return;
        };
        if let Some(gradient) = param.val().grad_remove(self.gradients) {
            let count = gradient.shape().num_elements();
            // Those of the copies of a shared parameter add up.
            let gradient = NamedGradients::from([(name.to_owned(), gradient.reshape([count]))]);
            accumulate(&mut self.found, gradient);
        }
    }
}

/// The sum of two sets of gradients.
pub fn accumulate(sum: &mut NamedGradients, gradients: NamedGradients) {
    for (name, gradient) in gradients {
        match sum.remove(&name) {
            Some(earlier) => sum.insert(name, earlier + gradient),
            None => sum.insert(name, gradient),
        };
    }
}

/// Scales the gradients by `factor`, and down to the norm `limit` if theirs is larger (0: never).
/// Returns the norm before clipping.
pub fn clip(gradients: &mut NamedGradients, factor: f64, limit: f64) -> f64 {
    let norm = sum_of_squares(gradients.values()).sqrt() * factor;
    let scale = match limit > 0.0 && norm > limit {
        true => factor * limit / norm,
        false => factor,
    };
    if scale != 1.0 {
        for gradient in gradients.values_mut() {
            *gradient = gradient.clone() * scale;
        }
    }
    norm
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::tensor::Device;

    #[derive(Module, Debug)]
    struct Weights {
        values: Param<Tensor<1>>,
    }

    fn row(values: [f32; 3], device: &Device) -> Tensor<1> {
        Tensor::from_data(TensorData::from(values), device)
    }

    /// torch 2.9.1: `torch.optim.AdamW([p], lr=0.01, betas=(0.9, 0.99), eps=1e-6, weight_decay=0.1)`
    /// with p = [0.5, -1, 2] and `p.grad` set to these gradients before each step.
    const STEPS: [([f32; 3], [f64; 3]); 3] = [
        ([0.1, -0.2, 0.0], [0.489_500_1, -0.989_000_1, 1.998_000_03]),
        ([0.3, 0.2, -1.0], [0.479_849_4, -0.988_537_43, 2.003_426_55]),
        (
            [-0.5, 0.1, 0.25],
            [0.480_973_72, -0.990_067_01, 2.005_452_39],
        ),
    ];

    fn optimizer() -> AdamW {
        let table = "epochs = 1\nbatch_size = 1\nlearning_rate = 0.01\nweight_decay = 0.1\nbeta_2 = 0.99\nepsilon = 1e-6";
        AdamW::new(&toml::from_str(table).expect("a training table"))
    }

    #[test]
    fn steps_are_those_of_torch_also_after_a_restart() {
        let device = Device::flex().autodiff();
        let mut weights = Weights {
            values: Param::from_tensor(row([0.5, -1.0, 2.0], &device)),
        };
        let mut names = ParameterNames::default();
        names.insert(weights.values.id, "weights".to_owned());
        let mut adamw = optimizer();
        for (step, (gradient, expected)) in STEPS.into_iter().enumerate() {
            let inner = device.clone().inner();
            let gradients = NamedGradients::from([("weights".to_owned(), row(gradient, &inner))]);
            weights = adamw.step(weights, &names, gradients, |_| 0.01);
            let found = names.values_of(&weights)["weights"].values.clone();
            for (found, expected) in found.iter().zip(expected) {
                // A few roundings of f32 around 2.
                assert!(
                    (f64::from(*found) - expected).abs() < 1e-6,
                    "step {step}: {found} against {expected}"
                );
            }
            let state = adamw.state();
            adamw = optimizer();
            adamw
                .restore(&state, step + 1, &inner)
                .expect("both moments");
        }
    }

    /// Parameters of both kinds, of which `last` has no gradient in every step.
    #[derive(Module, Debug)]
    struct Kinds {
        factor: Param<Tensor<2>>,
        other: Param<Tensor<1>>,
        last: Param<Tensor<1>>,
    }

    #[test]
    fn steps_of_all_parameters_together_are_those_of_each() {
        let device = Device::flex().autodiff();
        let inner = Device::flex();
        let start = Kinds {
            factor: Param::from_tensor(Tensor::from_data([[0.5, -1.0], [2.0, 0.25]], &device)),
            other: Param::from_tensor(row([1.0, 2.0, -3.0], &device)),
            last: Param::from_tensor(row([0.1, 0.2, 0.3], &device)),
        };
        let mut names = ParameterNames::default();
        names.insert_factor(start.factor.id, "factor".to_owned());
        names.insert(start.other.id, "other".to_owned());
        names.insert_factor(start.last.id, "last".to_owned());
        let rate = |name: &str| if name == "other" { 0.03 } else { 0.01 };
        let (mut together, mut each) = (optimizer(), optimizer());
        let (mut one, mut other) = (start.clone(), start);
        for step in 0..6 {
            let phase = step as f32;
            let wave = |place: usize| (place as f32 * 1.7 + phase).sin() * 3.0;
            let mut gradients = NamedGradients::from([
                (
                    "factor".to_owned(),
                    Tensor::from_data([0, 1, 2, 3].map(wave), &inner),
                ),
                ("other".to_owned(), row([4, 5, 6].map(wave), &inner)),
            ]);
            if step % 3 != 1 {
                gradients.insert("last".to_owned(), row([7, 8, 9].map(wave), &inner));
            }
            let limit = [0.0, 1.0, 1e3][step % 3];
            one = together.flat_step(one, &names, gradients.clone(), limit, rate);
            clip(&mut gradients, 1.0, limit);
            other = each.step(other, &names, gradients, rate);
            if step == 3 {
                // As after a checkpoint.
                let state = together.state();
                together.restore(&state, 4, &inner).expect("both moments");
            }
            let (found, expected) = (names.values_of(&one), names.values_of(&other));
            let states = (together.state(), each.state());
            assert!(states.0.keys().eq(states.1.keys()), "{:?}", states.0.keys());
            let found = found.into_iter().chain(states.0);
            for ((name, found), expected) in
                found.zip(expected.into_values().chain(states.1.into_values()))
            {
                for (found, expected) in found.values.iter().zip(&expected.values) {
                    // A few roundings; the norm is summed in f32.
                    let difference = (found - expected).abs();
                    assert!(
                        difference < 2e-6,
                        "step {step}, {name}: {found} against {expected}"
                    );
                }
            }
        }
    }

    #[test]
    fn clipping_scales_all_gradients_by_their_common_norm() {
        let device = Device::flex();
        let mut gradients = NamedGradients::from([
            ("a".to_owned(), row([3.0, 0.0, 0.0], &device)),
            ("b".to_owned(), row([0.0, 0.0, 4.0], &device)),
        ]);
        assert!((clip(&mut gradients, 0.5, 1.0) - 2.5).abs() < 1e-6);
        let data = gradients["b"].to_data().try_to_vec::<f32>().expect("f32");
        assert!((data[2] - 0.8).abs() < 1e-6, "{data:?}");
    }

    #[derive(Module, Debug)]
    struct Copies {
        first: Param<Tensor<1>>,
        second: Param<Tensor<1>>,
    }

    #[test]
    fn copies_of_a_shared_parameter_take_one_step_by_the_sum_of_their_gradients() {
        let device = Device::flex().autodiff();
        let start = [0.5, -1.0, 2.0];
        let mut copies = Copies {
            first: Param::from_tensor(row(start, &device)),
            second: Param::from_tensor(row(start, &device)),
        };
        let mut single = Weights {
            values: Param::from_tensor(row(start, &device)),
        };
        let (mut of_copies, mut of_single) = (ParameterNames::default(), ParameterNames::default());
        of_copies.insert_factor(copies.first.id, "w".to_owned());
        of_copies.insert_factor(copies.second.id, "w".to_owned());
        of_single.insert_factor(single.values.id, "w".to_owned());
        let (mut one, mut other) = (optimizer(), optimizer());
        for _ in 0..3 {
            let loss = copies.first.val().powi_scalar(2).sum() + copies.second.val().sum();
            let gradients = named_gradients(&copies, &of_copies, &mut loss.backward());
            copies = one.step(copies, &of_copies, gradients, |_| 0.01);
            let values = single.values.val();
            let loss = values.clone().powi_scalar(2).sum() + values.sum();
            let gradients = named_gradients(&single, &of_single, &mut loss.backward());
            single = other.step(single, &of_single, gradients, |_| 0.01);
            let values = |tensor: Tensor<1>| tensor.into_data().try_to_vec::<f32>().expect("f32");
            let expected = values(single.values.val());
            assert_eq!(values(copies.first.val()), expected);
            assert_eq!(values(copies.second.val()), expected);
        }
        let state = one.state();
        assert_eq!(state.keys().collect::<Vec<_>>(), ["w/first", "w/second"]);
    }
}
