//! What a device has room for.

use burn::backend::DispatchDevice;
use burn::cubecl::prelude::Client;
use burn::tensor::Device;

/// How many f32 one tensor of the device may have; `None` if it is no GPU.
pub fn most_values(device: &Device) -> Option<usize> {
    match device.clone().inner().as_dispatch() {
        DispatchDevice::Cube(device) => Some(most_values_of(&device.client())),
        _ => None,
    }
}

pub(crate) fn most_values_of(client: &Client) -> usize {
    let bytes = client.properties().memory.max_page_size;
    usize::try_from(bytes).unwrap_or(usize::MAX) / size_of::<f32>()
}
