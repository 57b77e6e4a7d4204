//! What one part of a diffusion model makes of tensors.

use eigenmix_diffusion::{AdaptedPipeline, ForwardPart, Part};
use eigenmix_tensors::{HostTensor, TensorFile};
use eigenmix_trainer::DeviceChoice;

use super::pipeline_request::warn_of_unread;
use crate::listener::Listener;
use crate::{ExperimentError, load_report};

/// The outputs of a part, by name.
///
/// # Errors
/// If an input is missing or does not fit, the part is missing, an adapter does not fit, or a value is not
/// finite.
pub fn part_forward(
    model: &AdaptedPipeline,
    part: ForwardPart,
    inputs: &TensorFile,
    device: DeviceChoice,
    listener: &dyn Listener,
) -> Result<Vec<(&'static str, HostTensor)>, ExperimentError> {
    warn_of_unused(model, part.parts(model), listener);
    warn_of_unread(model, part.parts(model), listener)?;
    let device = device.open()?;
    let mut report = |report: &_| load_report::show(report, listener);
    let outputs = eigenmix_diffusion::part_forward(model, part, inputs, &device, &mut report)?;
    Ok(outputs)
}

/// Says of adapters that have nothing for any of the parts that they have no effect.
fn warn_of_unused(model: &AdaptedPipeline, parts: &[Part], listener: &dyn Listener) {
    for (adapter, _) in &model.adapters {
        if let Some(found) = adapter.without(parts) {
            listener.warn(&format_args!(
                "adapter `{}` is for another part ({found}) and has no effect here",
                adapter.location()
            ));
        }
    }
}
