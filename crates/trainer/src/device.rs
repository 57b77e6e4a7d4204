//! The one place that chooses a device.

use std::str::FromStr;

use burn::tensor::Device;

use crate::TrainerError;

/// What `--device` asks for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DeviceChoice {
    /// Burn's flex backend with this project's kernels.
    #[default]
    Cpu,
    Ndarray,
    Wgpu,
    Vulkan,
    Cuda,
    /// A GPU if this build has a backend for it, else the CPU.
    Auto,
}

impl DeviceChoice {
    /// Every choice but `auto`.
    pub const ALL: [Self; 5] = [
        Self::Cpu,
        Self::Ndarray,
        Self::Wgpu,
        Self::Vulkan,
        Self::Cuda,
    ];

    pub fn name(self) -> &'static str {
        match self {
            Self::Cpu => "cpu",
            Self::Ndarray => "ndarray",
            Self::Wgpu => "wgpu",
            Self::Vulkan => "vulkan",
            Self::Cuda => "cuda",
            Self::Auto => "auto",
        }
    }

    /// Whether this build has the backend.
    pub fn is_built(self) -> bool {
        match self {
            Self::Cpu | Self::Auto => true,
            Self::Ndarray => cfg!(feature = "ndarray"),
            Self::Wgpu => cfg!(feature = "wgpu"),
            Self::Vulkan => cfg!(feature = "vulkan"),
            Self::Cuda => cfg!(feature = "cuda"),
        }
    }

    /// Opens the device.
    ///
    /// # Errors
    /// If this build has no backend for it.
    pub fn open(self) -> Result<Device, TrainerError> {
        match self {
            Self::Cpu => Ok(Device::flex()),
            #[cfg(feature = "ndarray")]
            #[allow(deprecated)]
            Self::Ndarray => Ok(Device::ndarray()),
            #[cfg(feature = "wgpu")]
            Self::Wgpu => Ok(Device::wgpu(burn::tensor::DeviceKind::DefaultDevice)),
            #[cfg(feature = "vulkan")]
            Self::Vulkan => Ok(Device::vulkan(burn::tensor::DeviceKind::DefaultDevice)),
            #[cfg(feature = "cuda")]
            Self::Cuda => Ok(Device::cuda(0)),
            Self::Auto => [Self::Cuda, Self::Vulkan, Self::Wgpu, Self::Cpu]
                .into_iter()
                .find(|choice| choice.is_built())
                .unwrap_or(Self::Cpu)
                .open(),
            #[allow(unreachable_patterns)]
            other => Err(TrainerError::DeviceNotBuilt {
                device: other.name(),
            }),
        }
    }
}

impl FromStr for DeviceChoice {
    type Err = TrainerError;

    fn from_str(name: &str) -> Result<Self, TrainerError> {
        Self::ALL
            .into_iter()
            .chain([Self::Auto])
            .find(|choice| choice.name() == name)
            .ok_or_else(|| TrainerError::UnknownDevice {
                found: name.to_owned(),
            })
    }
}
