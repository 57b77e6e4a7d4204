//! One step of AdamW in one pass over a parameter.

use burn::backend::flex::FlexTensor;
use burn::backend::tensor::FloatTensor;
use burn::backend::{Backend, Dispatch, Flex, backend_extension};
use burn::tensor::{DType, Tensor};
use rayon::prelude::*;

use crate::simd::vectorised;
use crate::{CHUNK, has_kernels};

/// The settings of a step, bias corrections included.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AdamWStep {
    /// β₁ and β₂.
    pub beta_1: f64,
    pub beta_2: f64,
    /// ε.
    pub epsilon: f64,
    /// η, the learning rate.
    pub rate: f64,
    /// λ.
    pub weight_decay: f64,
    /// t, from 1.
    pub step: i32,
}

/// A parameter and its moments, flattened: `[count]` each.
#[derive(Clone, Debug)]
pub struct AdamWState {
    pub parameter: Tensor<1>,
    pub first: Tensor<1>,
    pub second: Tensor<1>,
}

impl AdamWStep {
    /// m ← β₁ m + (1 − β₁) g, v ← β₂ v + (1 − β₂) g²,
    /// θ ← θ − η λ θ − η · (m / (1 − β₁ᵗ)) / (√(v / (1 − β₂ᵗ)) + ε)
    ///
    /// On the CPU this happens in place if there is no other handle to the tensors. None of them
    /// may be part of a graph.
    ///
    /// - gradient: `[count]`
    ///
    /// # Panics
    /// If the lengths differ.
    pub fn apply(&self, state: AdamWState, gradient: Tensor<1>) -> AdamWState {
        let lengths = [&state.first, &state.second, &gradient].map(|tensor| tensor.dims());
        assert_eq!(
            lengths,
            [state.parameter.dims(); 3],
            "lengths of a parameter's state"
        );
        #[cfg(feature = "gpu")]
        if crate::computes_later(&gradient.device()) {
            return self.launched(state, gradient);
        }
        if !has_kernels(&gradient.device()) {
            return self.composed(state, gradient);
        }
        let (parameter, first, second) = Dispatch::fused_adamw(
            state.parameter.into_dispatch(),
            state.first.into_dispatch(),
            state.second.into_dispatch(),
            gradient.into_dispatch(),
            *self,
        );
        AdamWState {
            parameter: Tensor::from_dispatch(parameter),
            first: Tensor::from_dispatch(first),
            second: Tensor::from_dispatch(second),
        }
    }

    #[cfg(feature = "gpu")]
    fn launched(&self, state: AdamWState, gradient: Tensor<1>) -> AdamWState {
        let numbers = eigenmix_cube::AdamWNumbers {
            beta_1: [self.beta_1, 1.0 - self.beta_1].map(|share| share as f32),
            beta_2: [self.beta_2, 1.0 - self.beta_2].map(|share| share as f32),
            corrections: self.corrections().map(|correction| correction as f32),
            epsilon: self.epsilon as f32,
            rate: self.rate as f32,
            decay: (1.0 - self.rate * self.weight_decay) as f32,
        };
        let state = [state.parameter, state.first, state.second];
        let [parameter, first, second] = eigenmix_cube::adamw(state, gradient, numbers);
        AdamWState {
            parameter,
            first,
            second,
        }
    }

    fn composed(&self, state: AdamWState, gradient: Tensor<1>) -> AdamWState {
        let first = state.first * self.beta_1 + gradient.clone() * (1.0 - self.beta_1);
        let second = state.second * self.beta_2 + gradient.square() * (1.0 - self.beta_2);
        let [first_scale, second_scale] = self.corrections();
        let direction =
            first.clone() * first_scale / ((second.clone() * second_scale).sqrt() + self.epsilon);
        let parameter = state.parameter * (1.0 - self.rate * self.weight_decay);
        AdamWState {
            parameter: parameter - direction * self.rate,
            first,
            second,
        }
    }

    /// 1 / (1 − β₁ᵗ) and 1 / (1 − β₂ᵗ).
    fn corrections(&self) -> [f64; 2] {
        [self.beta_1, self.beta_2].map(|beta| 1.0 / (1.0 - beta.powi(self.step)))
    }
}

/// Σ g² over all values of all tensors, in f64.
///
/// - tensors: each `[count]`
pub fn sum_of_squares<'a>(tensors: impl IntoIterator<Item = &'a Tensor<1>>) -> f64 {
    let (here, elsewhere): (Vec<_>, Vec<_>) = tensors
        .into_iter()
        .partition(|tensor| has_kernels(&tensor.device()) && tensor.dtype() == DType::F32);
    let here: f64 = here.into_iter().map(squares_of_one).sum();
    let sums = elsewhere
        .into_iter()
        .map(|tensor| tensor.clone().square().sum());
    let sums: Vec<Tensor<1>> = sums.collect();
    match sums.is_empty() {
        true => here,
        // Waits for a GPU once, not once per tensor.
        false => here + f64::from(Tensor::cat(sums, 0).sum().into_scalar::<f32>()),
    }
}

fn squares_of_one(tensor: &Tensor<1>) -> f64 {
    /// How many squares are summed in f32.
    const PART: usize = 1024;
    let data = tensor.to_data();
    let values = data.as_slice::<f32>().expect("a tensor of f32");
    let parts = values.chunks(PART).map(|part| {
        let mut sum = 0.0;
        squares(part, &mut sum);
        f64::from(sum)
    });
    parts.sum()
}

vectorised! {
    fn squares(values: &[f32], sum: &mut f32) {
        *sum = crate::simd::dot(values, values);
    }
}

#[backend_extension(Flex)]
pub(crate) trait AdamW: Backend {
    /// The parameter and its moments after the step.
    fn fused_adamw(
        parameter: FloatTensor<Self>,
        first: FloatTensor<Self>,
        second: FloatTensor<Self>,
        gradient: FloatTensor<Self>,
        step: AdamWStep,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>);
}

impl AdamW for Flex {
    fn fused_adamw(
        parameter: FlexTensor,
        first: FlexTensor,
        second: FlexTensor,
        gradient: FlexTensor,
        step: AdamWStep,
    ) -> (FlexTensor, FlexTensor, FlexTensor) {
        // A tensor that fills its buffer and has no other handle is changed in place. A part of a
        // larger tensor is copied, since its storage is that of the whole.
        let [mut parameter, mut first, mut second] =
            [parameter, first, second].map(|tensor| tensor.to_contiguous());
        let gradient = gradient.to_contiguous();
        parameter
            .storage_mut::<f32>()
            .par_chunks_mut(CHUNK)
            .zip(first.storage_mut::<f32>().par_chunks_mut(CHUNK))
            .zip(second.storage_mut::<f32>().par_chunks_mut(CHUNK))
            .zip(gradient.storage::<f32>().par_chunks(CHUNK))
            .for_each(|(((parameter, first), second), gradient)| {
                advance(parameter, first, second, gradient, step);
            });
        (parameter, first, second)
    }
}

vectorised! {
    fn advance(
        parameter: &mut [f32],
        first: &mut [f32],
        second: &mut [f32],
        gradient: &[f32],
        step: AdamWStep,
    ) {
        let [first_scale, second_scale] = step.corrections().map(|scale| scale as f32);
        let (beta_1, beta_2) = (step.beta_1 as f32, step.beta_2 as f32);
        let (fresh_1, fresh_2) = ((1.0 - step.beta_1) as f32, (1.0 - step.beta_2) as f32);
        let (epsilon, rate) = (step.epsilon as f32, step.rate as f32);
        let kept = (1.0 - step.rate * step.weight_decay) as f32;
        let moments = first.iter_mut().zip(second);
        for ((parameter, &gradient), (first, second)) in parameter.iter_mut().zip(gradient).zip(moments) {
            *first = *first * beta_1 + gradient * fresh_1;
            *second = *second * beta_2 + gradient * gradient * fresh_2;
            let direction = *first * first_scale / ((*second * second_scale).sqrt() + epsilon);
            *parameter = *parameter * kept - direction * rate;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::buffer::tensor;
    use burn::tensor::{Device, TensorData};

    fn values(count: usize, phase: f32) -> Tensor<1> {
        let values: Vec<f32> = (0..count)
            .map(|i| (i as f32 * 0.91 + phase).sin())
            .collect();
        Tensor::from_data(TensorData::new(values, [count]), &Device::flex())
    }

    const STEP: AdamWStep = AdamWStep {
        beta_1: 0.9,
        beta_2: 0.99,
        epsilon: 1e-6,
        rate: 0.01,
        weight_decay: 0.1,
        step: 3,
    };

    #[test]
    fn a_step_is_the_composed_one_and_leaves_what_others_hold() {
        // More than a chunk.
        let count = 20_000;
        let state = AdamWState {
            parameter: values(count, 0.0),
            first: values(count, 1.0) * 0.1,
            second: values(count, 2.0).square() * 0.1,
        };
        let before = state.clone();
        let found = STEP.apply(state.clone(), values(count, 3.0));
        let expected = STEP.composed(state, values(count, 3.0));
        let pairs = [
            (found.parameter, expected.parameter),
            (found.first, expected.first),
            (found.second, expected.second),
        ];
        for (found, expected) in pairs {
            // A few roundings of values of size one; a step moves them by 0.01.
            let difference = (found - expected).abs().max().into_scalar::<f32>();
            assert!(difference < 1e-6, "{difference}");
        }
        let difference = (before.parameter - values(count, 0.0)).abs().max();
        assert_eq!(difference.into_scalar::<f32>(), 0.0);
    }

    #[test]
    fn a_step_without_other_handles_is_in_place() {
        let state = || [0.5f32, 0.25, 0.125].map(|value| tensor(vec![value; 20_000], [20_000]));
        let place = |tensor: &FlexTensor| tensor.storage::<f32>().as_ptr();
        let gradient = || tensor(vec![0.1; 20_000], [20_000]);
        let [parameter, first, second] = state();
        let before = [&parameter, &first, &second].map(place);
        let found = Flex::fused_adamw(parameter, first, second, gradient(), STEP);
        assert_eq!([&found.0, &found.1, &found.2].map(place), before);

        let [parameter, first, second] = state();
        let held = parameter.clone();
        let found = Flex::fused_adamw(parameter, first, second, gradient(), STEP);
        assert_ne!(place(&found.0), place(&held));
    }

    #[test]
    fn a_step_of_parts_of_larger_tensors_moves_these_parts() {
        let (count, whole) = (700, 2000);
        let part = |phase: f32, start: usize| values(whole, phase).slice(start..start + count);
        let state = AdamWState {
            parameter: part(0.0, 300),
            first: (values(whole, 1.0) * 0.1).slice(0..count),
            second: values(whole, 2.0).square().slice(900..900 + count),
        };
        let found = STEP.apply(state.clone(), part(3.0, 450));
        let expected = STEP.composed(state, part(3.0, 450));
        let pairs = [
            (found.parameter, expected.parameter),
            (found.first, expected.first),
            (found.second, expected.second),
        ];
        for (found, expected) in pairs {
            let difference = (found - expected).abs().max().into_scalar::<f32>();
            // As above.
            assert!(difference < 1e-6, "{difference}");
        }
    }

    #[test]
    fn squares_are_summed_over_all_parts() {
        let count = 5000;
        let values: Vec<f32> = (0..count).map(|i| (i % 7) as f32).collect();
        let expected: usize = (0..count).map(|i| (i % 7) * (i % 7)).sum();
        let tensor = Tensor::from_data(TensorData::new(values, [count]), &Device::flex());
        // Integers this small are exact.
        assert_eq!(sum_of_squares([&tensor]), expected as f64);
    }
}
