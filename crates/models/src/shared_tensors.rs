//! Tensors of a checkpoint that are read and moved to a device once, for many models.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use burn::tensor::Device;

use crate::ModelError;

/// What has been placed so far. Tensors are reference counted, so the models that are built from
/// them cost only what sets them apart.
pub(crate) struct SharedTensors<T> {
    placed: Mutex<Placed<T>>,
}

struct Placed<T> {
    /// The device of the tensors; for another device they are read again.
    device: Option<Device>,
    by_name: HashMap<String, T>,
}

impl<T> Default for SharedTensors<T> {
    fn default() -> Self {
        let placed = Placed {
            device: None,
            by_name: HashMap::new(),
        };
        Self {
            placed: Mutex::new(placed),
        }
    }
}

impl<T: Clone> SharedTensors<T> {
    /// The tensor of that name, read by `read` when it is asked for the first time.
    ///
    /// # Errors
    /// As `read` fails.
    pub fn get(
        &self,
        name: &str,
        device: &Device,
        read: impl FnOnce() -> Result<T, ModelError>,
    ) -> Result<T, ModelError> {
        // A panic elsewhere leaves nothing half placed, so the tensors stay usable.
        let mut placed = self.placed.lock().unwrap_or_else(PoisonError::into_inner);
        if placed.device.as_ref() != Some(device) {
            *placed = Placed {
                device: Some(device.clone()),
                by_name: HashMap::new(),
            };
        }
        if let Some(tensor) = placed.by_name.get(name) {
            return Ok(tensor.clone());
        }
        let tensor = read()?;
        placed.by_name.insert(name.to_owned(), tensor.clone());
        Ok(tensor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::tensor::Tensor;

    #[test]
    fn a_tensor_is_read_once_and_keeps_its_values() {
        let shared = SharedTensors::default();
        let device = Device::default();
        let values = [1.0f32, 2.0, 3.0, 4.0, 5.0, 6.0];
        let read = || Ok(Tensor::<1>::from_data(values, &device));
        let again = || {
            Err(ModelError::MissingTensor {
                name: "read twice".to_owned(),
            })
        };
        let first = shared.get("weight", &device, read).expect("a tensor");
        let again = shared.get("weight", &device, again).expect("the same");
        for tensor in [first, again] {
            let found = tensor.into_data().try_into_vec::<f32>().expect("f32");
            assert_eq!(found, values);
        }
    }

    #[test]
    fn a_failure_to_read_is_no_tensor() {
        let shared = SharedTensors::default();
        let device = Device::default();
        let missing = || {
            Err(ModelError::MissingTensor {
                name: "weight".to_owned(),
            })
        };
        assert!(shared.get("weight", &device, missing).is_err());
        let read = || Ok(Tensor::<1>::from_data([7.0f32], &device));
        assert!(shared.get("weight", &device, read).is_ok());
    }
}
