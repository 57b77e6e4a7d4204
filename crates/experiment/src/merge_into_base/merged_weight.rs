//! W₀ + ΔW in the orientation and the dtype of the base model.

use eigenmix_adapter::{LayerKind, LoraModule};
use eigenmix_models::updated;
use eigenmix_tensors::{Dtype, Matrix, TensorOutput, encode};

use crate::BadInput;
use crate::ExperimentError;

/// Models whose linear layers are `Conv1D`, which stores its weight transposed.
const TRANSPOSED_MODELS: [&str; 3] = ["gpt2", "openai-gpt", "imagegpt"];

/// How a base model stores the weights of its linear layers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Orientation {
    /// `[d_out, d_in]`, as `Linear` does.
    OutIn,
    /// `[d_in, d_out]`, as `Conv1D` does.
    InOut,
}

impl Orientation {
    /// That of a model of type `model_type`; `fan_in_fan_out` is what PEFT noted about it.
    pub(super) fn of(fan_in_fan_out: bool, model_type: Option<&str>) -> Self {
        if fan_in_fan_out || model_type.is_some_and(|found| TRANSPOSED_MODELS.contains(&found)) {
            Self::InOut
        } else {
            Self::OutIn
        }
    }

    /// The shape in which the weight of `module` is stored.
    pub(super) fn shape(self, module: &LoraModule) -> Vec<usize> {
        let (d_out, d_in) = (module.d_out(), module.d_in());
        match self.of_layer(module) {
            Self::OutIn => module.layer.weight_shape(d_out, d_in),
            Self::InOut => vec![d_in, d_out],
        }
    }

    /// That of one module: only linear layers are ever transposed.
    fn of_layer(self, module: &LoraModule) -> Self {
        match module.layer {
            LayerKind::Linear => self,
            _ => Self::OutIn,
        }
    }
}

/// `W₀ + ΔW`, or `m ⊙ (W₀ + ΔW) / ‖W₀ + ΔW‖` with DoRA's magnitude m, norms over each output row.
///
/// - stored: W₀ as the file has it, in `orientation`; so is the result.
///
/// # Panics
/// If `stored` has not as many values as ΔW.
pub(super) fn merged_weight(
    stored: Vec<f32>,
    module: &LoraModule,
    orientation: Orientation,
) -> Vec<f32> {
    let orientation = orientation.of_layer(module);
    let [d_out, d_in] = [module.d_out(), module.d_in()];
    match orientation {
        Orientation::OutIn => updated(stored, module),
        Orientation::InOut => {
            let weight = Matrix::new(d_in, d_out, stored).transposed();
            let merged = updated(weight.into_values(), module);
            Matrix::new(d_out, d_in, merged).transposed().into_values()
        }
    }
}

/// A tensor in the bytes of a file.
pub(super) struct EncodedTensor {
    pub(super) name: String,
    shape: Vec<usize>,
    dtype: Dtype,
    pub(super) bytes: Vec<u8>,
}

impl EncodedTensor {
    /// Rounds `values` to `dtype`.
    ///
    /// # Errors
    /// If `dtype` is not f32, f16, bf16 or f64, or a value is too large for it.
    pub(super) fn new(
        name: String,
        shape: Vec<usize>,
        dtype: Dtype,
        values: &[f32],
    ) -> Result<Self, ExperimentError> {
        if !matches!(dtype, Dtype::F32 | Dtype::F16 | Dtype::BF16 | Dtype::F64) {
            let problem = format!(
                "`{name}` has dtype {dtype} in the base model, expected f32, f16, bf16 or f64; merge into the checkpoint from before its quantisation"
            );
            return Err(BadInput(problem).into());
        }
        let bytes = encode(&name, values, dtype)?;
        Ok(Self {
            name,
            shape,
            dtype,
            bytes,
        })
    }

    pub(super) fn output(&self) -> TensorOutput<'_> {
        TensorOutput::bytes(
            self.name.as_str(),
            self.shape.as_slice(),
            self.dtype,
            &self.bytes,
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// ΔW = 0.5·[1, 2, 3]ᵀ·[4, −2], [3, 2].
    fn module() -> LoraModule {
        let b = Matrix::new(3, 1, vec![1.0, 2.0, 3.0]);
        let a = Matrix::new(1, 2, vec![4.0, -2.0]);
        LoraModule::new(b, a, 0.5)
    }

    #[test]
    fn the_update_is_added_in_either_orientation() {
        let stored = vec![10.0, 20.0, 30.0, 40.0, 50.0, 60.0];
        let merged = merged_weight(stored.clone(), &module(), Orientation::OutIn);
        assert_eq!(merged, [12.0, 19.0, 34.0, 38.0, 56.0, 57.0]);
        // The same numbers as [d_in, d_out].
        let merged = merged_weight(stored, &module(), Orientation::InOut);
        assert_eq!(merged, [12.0, 24.0, 36.0, 39.0, 48.0, 57.0]);
    }

    #[test]
    fn only_linear_layers_are_ever_stored_transposed() {
        let stored = vec![10.0, 20.0, 30.0, 40.0, 50.0, 60.0];
        let kernel = vec![1, 2];
        for (layer, shape) in [
            (LayerKind::Embedding, vec![3, 2]),
            (LayerKind::Convolution { kernel }, vec![3, 1, 1, 2]),
        ] {
            let module = module().of_layer(layer);
            assert_eq!(Orientation::InOut.shape(&module), shape);
            let merged = merged_weight(stored.clone(), &module, Orientation::InOut);
            assert_eq!(merged, [12.0, 19.0, 34.0, 38.0, 56.0, 57.0]);
        }
    }

    #[test]
    fn a_magnitude_gives_every_output_row_its_norm() {
        let mut module = module();
        module.magnitude = Some(vec![10.0, 1.0, 2.0]);
        // W₀ + ΔW = [[3, 4], [0, 2], [6, 0]]
        let stored = vec![1.0, 5.0, -4.0, 4.0, 0.0, 3.0];
        let merged = merged_weight(stored, &module, Orientation::OutIn);
        assert_eq!(merged, [6.0, 8.0, 0.0, 1.0, 2.0, 0.0]);
    }

    #[test]
    fn a_row_that_the_update_cancels_stays_zero() {
        let mut module = module();
        module.magnitude = Some(vec![5.0, 1.0, 2.0]);
        // W₀ = −ΔW in the first row.
        let stored = vec![-2.0, 1.0, -4.0, 4.0, 0.0, 3.0];
        let merged = merged_weight(stored, &module, Orientation::OutIn);
        assert_eq!(merged, [0.0, 0.0, 0.0, 1.0, 2.0, 0.0]);
    }

    #[test]
    fn a_weight_of_integers_is_refused_with_what_to_do() {
        let error = EncodedTensor::new("w".into(), vec![1], Dtype::I8, &[1.0]).err();
        let error = error.expect("an error").to_string();
        assert!(
            error.contains("`w`") && error.contains("quantisation"),
            "{error}"
        );
    }

    #[test]
    fn what_a_dtype_cannot_hold_is_refused() {
        let error = EncodedTensor::new("w".into(), vec![1], Dtype::F16, &[70_000.0]).err();
        let error = error.expect("an error").to_string();
        assert!(error.contains("`w`") && error.contains("70000"), "{error}");
    }
}
