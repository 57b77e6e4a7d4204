//! Losses that are still on the device.

use burn::tensor::Tensor;

use crate::TrainerError;
use crate::host_values::host_values;

/// The losses of the latest steps, on a device that would have to be waited for to read them.
#[derive(Default)]
pub(super) struct PendingLosses {
    losses: Vec<Tensor<1>>,
}

impl PendingLosses {
    /// The loss of the next step.
    ///
    /// - loss: `[1]`, outside of the graph
    pub fn add(&mut self, loss: Tensor<1>) {
        self.losses.push(loss);
    }

    /// Reads the losses in one transfer; afterwards there are none.
    ///
    /// - steps: how many steps were taken, these included
    ///
    /// # Errors
    /// If one of them is not finite.
    pub fn read(&mut self, steps: usize) -> Result<Vec<f64>, TrainerError> {
        let losses = std::mem::take(&mut self.losses);
        if losses.is_empty() {
            return Ok(Vec::new());
        }
        let before = steps - losses.len();
        let losses = host_values(Tensor::cat(losses, 0));
        match losses.iter().position(|loss| !loss.is_finite()) {
            Some(place) => Err(TrainerError::Diverged {
                step: before + place + 1,
                loss: losses[place],
            }),
            None => Ok(losses.into_iter().map(f64::from).collect()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::tensor::Device;

    #[test]
    fn losses_are_read_once_and_the_first_step_that_diverged_is_named() {
        let mut pending = PendingLosses::default();
        let mut read = |losses: &[f32], steps: usize| {
            for loss in losses {
                pending.add(Tensor::from_data([*loss], &Device::flex()));
            }
            pending.read(steps)
        };
        assert_eq!(read(&[0.5, 0.25], 2).expect("finite"), [0.5, 0.25]);
        assert_eq!(read(&[], 2).expect("none"), [0.0; 0]);
        let error = read(&[0.125, f32::NAN, f32::INFINITY], 12).expect_err("diverged");
        let is_named = matches!(error, TrainerError::Diverged { step: 11, loss } if loss.is_nan());
        assert!(is_named, "{error}");
    }
}
