//! Builds a model's layers from a checkpoint, placing the adaptation as it goes.

use std::collections::BTreeSet;

use burn::module::Param;
use burn::tensor::{Device, Tensor};
use eigenmix_adapter::is_saved_by;
use eigenmix_kernels::{FrozenWeight, Weight};
use eigenmix_moslora::{AdaptedConvolution, AdaptedLinear, ParameterNames};

use crate::checkpoint::transposed;
use crate::dora::rescale_rows;
use crate::holding::Role;
use crate::norm::{LayerNorm, Norm, NormKind, RmsNorm};
use crate::tensor_source::Fallback;
use crate::{Adaptation, Checkpoint, LinearLayer, ModelError};

/// Which parts of a model are trained besides its updates.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Train {
    Nothing,
    /// The task's head.
    Head,
    /// Everything: full fine-tuning, or pre-training where the checkpoint has no weights.
    Everything,
}

/// A checkpoint whose layers are asked for one by one, by name and shape.
pub struct Builder<'a> {
    pub(crate) checkpoint: &'a Checkpoint,
    pub(crate) adaptation: &'a Adaptation,
    /// The model's name inside its task wrapper, which checkpoints of the bare model leave out.
    pub(crate) prefix: &'static str,
    pub(crate) train: Train,
    pub(crate) seed: u64,
    pub(crate) device: &'a Device,
    pub(crate) names: ParameterNames,
    /// Tensors that neither checkpoint nor adapter had, and that were drawn at random.
    pub(crate) initialised: Vec<String>,
    /// The names of the adaptation's tensors that have found their place.
    pub(crate) placed: BTreeSet<String>,
}

impl<'a> Builder<'a> {
    /// For a model of which only the updates are trained.
    ///
    /// - prefix: the model's name inside its task wrapper, which checkpoints of the bare model leave
    ///   out; empty if it has none
    pub fn frozen(
        checkpoint: &'a Checkpoint,
        adaptation: &'a Adaptation,
        prefix: &'static str,
        device: &'a Device,
    ) -> Self {
        Self {
            checkpoint,
            adaptation,
            prefix,
            train: Train::Nothing,
            seed: 0,
            device,
            names: ParameterNames::default(),
            initialised: Vec::new(),
            placed: BTreeSet::new(),
        }
    }

    /// The names of what is trained so far, and the names of the adaptation's whole tensors that no
    /// layer asked for.
    pub fn finish(self) -> (ParameterNames, Vec<String>) {
        let brought = self.adaptation.tensors.keys();
        let unplaced = brought.filter(|name| !self.placed.contains(*name));
        let unplaced = unplaced.cloned().collect();
        (self.names, unplaced)
    }

    /// A convolution of images, its kernel stored `[d_out, c_in, height, width]` and so its update, whose
    /// d_in is c_in times the places of the kernel.
    ///
    /// # Errors
    /// If a tensor is missing or has another shape.
    pub fn convolution(
        &mut self,
        layer: &LinearLayer,
        kernel: [usize; 2],
    ) -> Result<AdaptedConvolution, ModelError> {
        let path = layer.path.as_str();
        let [height, width] = kernel;
        let stored = [layer.d_out, layer.d_in / (height * width), height, width];
        let name = format!("{path}.weight");
        let mut values = self.values(&name, &stored, Fallback::Required, false)?;
        let mut update = self.adaptation.updates.get(path).cloned();
        let magnitude = self.adaptation.magnitudes.get(path);
        if let (Some(update), Some(magnitude)) = (&mut update, magnitude) {
            values = rescale_rows(values, update, magnitude);
        }
        let values = AdaptedConvolution::by_places(&values, stored);
        let weight = self.tensor::<2>(values, [layer.d_out, layer.d_in]);
        let kept = self.find(&name).filter(|_| !self.brings(&name));
        let kept = kept.and_then(|name| self.checkpoint.kept_half(name, self.device));
        let weight = match kept {
            Some(half) => weight.cast(half),
            None => weight,
        };
        let bias = self.bias(layer, Fallback::Required, false)?;
        let linear = AdaptedLinear::frozen(weight, bias);
        let linear = match &update {
            Some(update) => linear.with_update(update, path, &mut self.names),
            None => linear,
        };
        Ok(AdaptedConvolution::new(linear, kernel))
    }

    /// A tensor that is never trained.
    ///
    /// # Errors
    /// If it is missing or has another shape.
    pub fn frozen_tensor<const D: usize>(
        &mut self,
        name: &str,
        shape: [usize; D],
    ) -> Result<Tensor<D>, ModelError> {
        self.placed(name, shape, Fallback::Required, false)
    }

    /// Whether the checkpoint has the tensor.
    pub fn has(&self, name: &str) -> bool {
        self.find(name).is_some()
    }

    /// A layer of the base model.
    ///
    /// # Errors
    /// If a tensor is missing or has another shape.
    pub fn linear(&mut self, layer: &LinearLayer) -> Result<AdaptedLinear, ModelError> {
        let mut saved = self.adaptation.saved.iter();
        let trained = match self.train {
            Train::Everything => true,
            Train::Head => saved.any(|module| is_saved_by(&layer.path, module)),
            Train::Nothing => false,
        };
        self.any_linear(layer, trained, false)
    }

    /// A layer of the task's head: trained where the task is, and drawn at random where nothing
    /// provides it and it is trained.
    pub(crate) fn head(&mut self, layer: &LinearLayer) -> Result<AdaptedLinear, ModelError> {
        let adapted = self.adaptation.updates.contains_key(&layer.path);
        self.any_linear(layer, self.train != Train::Nothing && !adapted, true)
    }

    fn any_linear(
        &mut self,
        layer: &LinearLayer,
        trained: bool,
        head: bool,
    ) -> Result<AdaptedLinear, ModelError> {
        let (path, d_out) = (layer.path.as_str(), layer.d_out);
        // What is saved whole starts from the base model's, which has to be there.
        let (weight_fallback, bias_fallback) =
            match trained && (head || self.train == Train::Everything) {
                true => (Fallback::Normal, Fallback::Constant(0.0)),
                false => (Fallback::Required, Fallback::Required),
            };
        let name = format!("{path}.weight");
        let stored = layer.stored_shape();
        let mut update = self.adaptation.updates.get(path).cloned();
        let magnitude = self.adaptation.magnitudes.get(path);
        let linear = match (&mut update, magnitude) {
            (None, _) | (_, None) if !trained => {
                let role = match layer.transposed {
                    true => Role::TransposedLayer,
                    false => Role::Layer,
                };
                let weight = self.frozen_weight(&name, stored, role, head)?;
                AdaptedLinear::frozen(weight, self.bias(layer, bias_fallback, head)?)
            }
            (update, magnitude) => {
                let mut weight = self.values(&name, &stored, weight_fallback, head)?;
                if layer.transposed {
                    weight = transposed(&weight, stored);
                }
                if let (Some(update), Some(magnitude)) = (update, magnitude) {
                    weight = rescale_rows(weight, update, magnitude);
                }
                let weight = self.tensor(weight, [d_out, layer.d_in]);
                let bias = self.bias(layer, bias_fallback, head)?;
                match trained {
                    true => AdaptedLinear::trained(weight, bias, path, &mut self.names),
                    false => AdaptedLinear::frozen(weight, bias),
                }
            }
        };
        Ok(match &update {
            Some(update) => linear.with_update(update, path, &mut self.names),
            None => linear,
        })
    }

    /// The layer's own bias, and what `lora_bias` adds to it.
    fn bias(
        &mut self,
        layer: &LinearLayer,
        fallback: Fallback,
        head: bool,
    ) -> Result<Option<Tensor<1>>, ModelError> {
        let name = format!("{}.bias", layer.path);
        let d_out = layer.d_out;
        // Some tools write zeros where the architecture has no bias.
        if !layer.bias
            && let Some(found) = self.find(&name)
            && let Some(shape) = self.checkpoint.shape(found).map(<[usize]>::to_vec)
            && self
                .checkpoint
                .read(found, &shape)?
                .iter()
                .any(|&value| value != 0.0)
        {
            return Err(ModelError::UnknownBias { name });
        }
        let Some(shift) = self.adaptation.bias_shifts.get(&layer.path) else {
            return match layer.bias {
                true => Ok(Some(self.placed(&name, [d_out], fallback, head)?)),
                false => Ok(None),
            };
        };
        let mut bias = match layer.bias {
            true => self.values(&name, &[d_out], fallback, head)?,
            false => vec![0.0; d_out],
        };
        bias.iter_mut()
            .zip(shift)
            .for_each(|(bias, shift)| *bias += shift);
        Ok(Some(self.tensor(bias, [d_out])))
    }

    /// An embedding table `[count, d_model]`.
    pub(crate) fn embedding(
        &mut self,
        path: &str,
        shape: [usize; 2],
    ) -> Result<Weight, ModelError> {
        let name = format!("{path}.weight");
        Ok(match self.train {
            Train::Everything => Weight::Trained(self.parameter(&name, shape)?),
            Train::Nothing | Train::Head => {
                Weight::Frozen(self.frozen_weight(&name, shape, Role::Table, false)?)
            }
        })
    }

    /// A matrix of the model that is not trained, `[d_out, d_in]`: the adapter's, in f32, or the
    /// checkpoint's, as its precision has it.
    ///
    /// - shape: as stored
    fn frozen_weight(
        &mut self,
        name: &str,
        shape: [usize; 2],
        role: Role,
        head: bool,
    ) -> Result<FrozenWeight, ModelError> {
        if !self.brings(name)
            && let Some(found) = self.find(name)
        {
            let share = self.train == Train::Nothing;
            let checkpoint = self.checkpoint;
            return checkpoint.weight(found, shape, role, share, self.device);
        }
        let values = self.values(name, &shape, Fallback::Required, head)?;
        let weight = FrozenWeight::from(self.tensor(values, shape));
        Ok(match role {
            Role::TransposedLayer => weight.transposed(),
            Role::Layer | Role::Table => weight,
        })
    }

    /// A tensor of the base model.
    pub(crate) fn parameter<const D: usize>(
        &mut self,
        name: &str,
        shape: [usize; D],
    ) -> Result<Param<Tensor<D>>, ModelError> {
        let fallback = self.base_fallback(Fallback::Normal);
        let tensor = self.placed(name, shape, fallback, false)?;
        Ok(self.base_parameter(tensor, name.to_owned()))
    }

    /// A tensor of the base model that the checkpoint stores in another shape.
    pub(crate) fn reshaped<const D: usize>(
        &mut self,
        name: &str,
        stored: &[usize],
        shape: [usize; D],
    ) -> Result<Param<Tensor<D>>, ModelError> {
        let fallback = self.base_fallback(Fallback::Normal);
        let values = self.values(name, stored, fallback, false)?;
        let tensor = self.tensor(values, shape);
        self.names.set_stored_shape(name, stored);
        Ok(self.base_parameter(tensor, name.to_owned()))
    }

    /// A norm over `width` values.
    pub(crate) fn norm(
        &mut self,
        path: &str,
        kind: NormKind,
        width: usize,
        epsilon: f64,
    ) -> Result<Norm, ModelError> {
        let (offset, initial) = match kind {
            NormKind::Layer => return Ok(Norm::Layer(self.layer_norm(path, width, epsilon)?)),
            NormKind::Rms => (0.0, 1.0),
            NormKind::RmsFromOne => (1.0, 0.0),
        };
        let name = format!("{path}.weight");
        let fallback = self.base_fallback(Fallback::Constant(initial));
        let gamma = self.placed(&name, [width], fallback, false)?;
        Ok(Norm::Rms(RmsNorm {
            gamma: self.base_parameter(gamma, name),
            offset,
            epsilon,
        }))
    }

    /// A layer norm over `width` values.
    pub(crate) fn layer_norm(
        &mut self,
        path: &str,
        width: usize,
        epsilon: f64,
    ) -> Result<LayerNorm, ModelError> {
        let mut part = |name: &str, older: &str, value: f32| {
            let mut name = format!("{path}.{name}");
            // Checkpoints converted from TensorFlow say gamma and beta.
            let older = format!("{path}.{older}");
            let is_newer = self.brings(&name) || self.find(&name).is_some();
            if !is_newer && self.find(&older).is_some() {
                name = older;
            }
            let fallback = self.base_fallback(Fallback::Constant(value));
            let tensor = self.placed(&name, [width], fallback, false)?;
            Ok::<_, ModelError>(self.base_parameter(tensor, name))
        };
        Ok(LayerNorm {
            gamma: part("weight", "gamma", 1.0)?,
            beta: part("bias", "beta", 0.0)?,
            epsilon,
        })
    }

    /// A tensor of the head that is never trained, from the adaptation.
    pub(crate) fn frozen_head<const D: usize>(
        &mut self,
        name: &str,
        shape: [usize; D],
    ) -> Result<Tensor<D>, ModelError> {
        let values = self.values(name, &shape, Fallback::Required, true)?;
        Ok(self.tensor(values, shape))
    }

    /// A scalar of the checkpoint.
    pub(crate) fn number(&mut self, name: &str) -> Result<f32, ModelError> {
        let values = self.values(name, &[], Fallback::Required, false)?;
        Ok(values[0])
    }

    fn base_fallback(&self, fallback: Fallback) -> Fallback {
        match self.train {
            Train::Everything => fallback,
            Train::Nothing | Train::Head => Fallback::Required,
        }
    }

    fn base_parameter<const D: usize>(
        &mut self,
        value: Tensor<D>,
        name: String,
    ) -> Param<Tensor<D>> {
        let trained = self.train == Train::Everything;
        let param = Param::from_tensor(value).set_require_grad(trained);
        if trained {
            self.names.insert(param.id, name);
        }
        param
    }
}
