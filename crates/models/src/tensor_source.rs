//! Where the values of a model's tensors come from: the adaptation, the checkpoint, or a draw.

use burn::tensor::{Tensor, TensorData};
use eigenmix_moslora::random_stream;
use eigenmix_tensors::HostTensor;
use rand_distr::{Distribution, Normal};

use crate::ModelError;
use crate::builder::{Builder, Train};

/// The standard deviation of weights that no checkpoint provides (BERT's initializer_range).
const INITIAL_DEVIATION: f32 = 0.02;

/// Where a tensor's values come from if nothing provides them.
pub(crate) enum Fallback {
    Required,
    Normal,
    Constant(f32),
}

impl<'a> Builder<'a> {
    /// The name under which the checkpoint has the tensor: with the model's prefix, or without.
    pub(crate) fn find<'n>(&self, name: &'n str) -> Option<&'n str> {
        self.checkpoint.find(name, self.prefix)
    }

    /// Whether the adaptation has the tensor.
    pub(crate) fn brings(&self, name: &str) -> bool {
        self.brought(name).is_some()
    }

    /// What the adaptation has in a tensor's place, and under which name: with the model's prefix, or
    /// without.
    pub(crate) fn brought(&self, name: &str) -> Option<(&'a str, &'a HostTensor)> {
        let tensors = &self.adaptation.tensors;
        let bare = name
            .strip_prefix(self.prefix)
            .and_then(|rest| rest.strip_prefix('.'));
        let found = [Some(name), bare]
            .into_iter()
            .flatten()
            .find_map(|name| tensors.get_key_value(name));
        found.map(|(name, tensor)| (name.as_str(), tensor))
    }

    /// A tensor's values: from the adapter, otherwise from the checkpoint, otherwise drawn at
    /// random.
    pub(crate) fn values(
        &mut self,
        name: &str,
        shape: &[usize],
        fallback: Fallback,
        head: bool,
    ) -> Result<Vec<f32>, ModelError> {
        if let Some((brought, tensor)) = self.brought(name) {
            if tensor.shape != shape && !head {
                return Err(ModelError::WholeShape {
                    name: name.to_owned(),
                    expected: shape.to_vec(),
                    found: tensor.shape.clone(),
                });
            }
            if tensor.shape != shape {
                return Err(ModelError::HeadShape {
                    name: name.to_owned(),
                    labels: shape[0],
                    expected: shape.to_vec(),
                    found: tensor.shape.clone(),
                });
            }
            self.placed.insert(brought.to_owned());
            return Ok(tensor.values.clone());
        }
        let found = self.find(name);
        // A new task may have more or fewer labels than the checkpoint's own head.
        let usable = found.is_some_and(|found| self.checkpoint.shape(found) == Some(shape));
        if let Some(found) = found
            && (usable || !head || matches!(fallback, Fallback::Required))
        {
            return self.checkpoint.read(found, shape);
        }
        let count = shape.iter().product();
        let values = match fallback {
            Fallback::Required if head => {
                return Err(ModelError::MissingHead {
                    name: name.to_owned(),
                });
            }
            Fallback::Required => {
                return Err(ModelError::MissingTensor {
                    name: name.to_owned(),
                });
            }
            Fallback::Constant(value) => vec![value; count],
            Fallback::Normal => {
                // Each tensor has its own stream, so that one more layer changes no other.
                let random = random_stream(self.seed, &[name]);
                Normal::new(0.0, INITIAL_DEVIATION)
                    .expect("a positive deviation")
                    .sample_iter(random)
                    .take(count)
                    .collect()
            }
        };
        self.initialised.push(name.to_owned());
        Ok(values)
    }

    /// A tensor's values on the device: those that models share, where nothing takes their place.
    pub(crate) fn placed<const D: usize>(
        &mut self,
        name: &str,
        shape: [usize; D],
        fallback: Fallback,
        head: bool,
    ) -> Result<Tensor<D>, ModelError> {
        let is_frozen = matches!(fallback, Fallback::Required);
        if is_frozen
            && !self.brings(name)
            && let Some(found) = self.find(name)
        {
            let share = self.train == Train::Nothing;
            return self.checkpoint.place(found, shape, share, self.device);
        }
        let values = self.values(name, &shape, fallback, head)?;
        Ok(self.tensor(values, shape))
    }

    pub(crate) fn tensor<const D: usize>(&self, values: Vec<f32>, shape: [usize; D]) -> Tensor<D> {
        Tensor::from_data(TensorData::new(values, shape), self.device)
    }
}
