//! The one place that chooses a device.

use std::fmt;
use std::str::FromStr;

use burn::tensor::Device;

use crate::TrainerError;

/// A compute backend. All but the first are cargo features.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Backend {
    /// Burn's flex backend with this project's kernels.
    Cpu,
    Ndarray,
    /// Any GPU, through the graphics interface that the machine offers and WGSL, or SPIR-V where the
    /// build has it.
    Wgpu,
    /// Any GPU that Vulkan reaches, through SPIR-V where it can.
    Vulkan,
    Cuda,
}

/// A device of this machine.
#[derive(Clone, Debug)]
pub struct PresentDevice {
    pub device: Device,
    pub kind: DeviceKind,
}

/// In order of preference.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum DeviceKind {
    DiscreteGpu,
    IntegratedGpu,
    VirtualGpu,
    OtherGpu,
    /// A CPU, of a CPU backend.
    Cpu,
    /// A GPU emulated in software.
    SoftwareGpu,
}

/// What `--device` asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeviceChoice {
    /// A real GPU if this build and this machine have one, else the CPU.
    Auto,
    /// The device with this index, or the best one.
    Of(Backend, Option<usize>),
}

impl Backend {
    pub const ALL: [Self; 5] = [
        Self::Cpu,
        Self::Ndarray,
        Self::Wgpu,
        Self::Vulkan,
        Self::Cuda,
    ];

    /// The name in `--device` and of the cargo feature.
    pub fn name(self) -> &'static str {
        match self {
            Self::Cpu => "cpu",
            Self::Ndarray => "ndarray",
            Self::Wgpu => "wgpu",
            Self::Vulkan => "vulkan",
            Self::Cuda => "cuda",
        }
    }

    /// Whether this build has the backend.
    pub fn is_built(self) -> bool {
        match self {
            Self::Cpu => true,
            Self::Ndarray => cfg!(feature = "ndarray"),
            Self::Wgpu => cfg!(feature = "wgpu"),
            Self::Vulkan => cfg!(feature = "vulkan"),
            Self::Cuda => cfg!(feature = "cuda"),
        }
    }

    /// The devices of this machine that the backend can use, the best first; none if this build
    /// lacks the backend.
    pub fn present(self) -> Vec<PresentDevice> {
        let devices: Vec<Device> = match self {
            Self::Cpu => vec![Device::flex()],
            #[cfg(feature = "ndarray")]
            #[allow(deprecated)]
            Self::Ndarray => vec![Device::ndarray()],
            #[cfg(feature = "wgpu")]
            Self::Wgpu => all_of(burn::tensor::DeviceType::Wgpu),
            #[cfg(feature = "vulkan")]
            Self::Vulkan => all_of(burn::tensor::DeviceType::Vulkan),
            #[cfg(feature = "cuda")]
            Self::Cuda => all_of(burn::tensor::DeviceType::Cuda),
            #[allow(unreachable_patterns)]
            _ => Vec::new(),
        };
        let mut devices: Vec<PresentDevice> = devices
            .into_iter()
            .map(|device| PresentDevice {
                kind: kind_of(&device),
                device,
            })
            .collect();
        devices.sort_by_key(|device| device.kind);
        devices
    }
}

#[cfg(any(feature = "wgpu", feature = "cuda"))]
fn all_of(kind: burn::tensor::DeviceType) -> Vec<Device> {
    Device::enumerate(kind).iter().cloned().collect()
}

fn kind_of(device: &Device) -> DeviceKind {
    #[cfg(feature = "wgpu")]
    {
        use burn::backend::{CubeDevice, DispatchDevice, WgpuDeviceKind};
        if let DispatchDevice::Cube(CubeDevice::Wgpu(device)) = device.as_dispatch() {
            return match device.kind {
                WgpuDeviceKind::DiscreteGpu(_) => DeviceKind::DiscreteGpu,
                WgpuDeviceKind::IntegratedGpu(_) => DeviceKind::IntegratedGpu,
                WgpuDeviceKind::VirtualGpu(_) => DeviceKind::VirtualGpu,
                WgpuDeviceKind::Cpu => DeviceKind::SoftwareGpu,
                _ => DeviceKind::OtherGpu,
            };
        }
    }
    #[cfg(feature = "cuda")]
    {
        use burn::backend::{CubeDevice, DispatchDevice};
        if let DispatchDevice::Cube(CubeDevice::Cuda(_)) = device.as_dispatch() {
            return DeviceKind::DiscreteGpu;
        }
    }
    let _ = device;
    DeviceKind::Cpu
}

impl PresentDevice {
    /// The name that the device reports, if any. Asking opens the device.
    pub fn name(&self) -> Option<String> {
        #[cfg(any(feature = "wgpu", feature = "cuda"))]
        if self.kind != DeviceKind::Cpu {
            return self.device.identity().map(|identity| identity.name);
        }
        None
    }

    /// Whether the device is attached to a bus of this machine. A device that wgpu reaches through
    /// OpenGL alone is not, and a computation on it may never end. Asking opens the device.
    fn is_a_card(&self) -> bool {
        #[cfg(any(feature = "wgpu", feature = "cuda"))]
        if let Some(card) = self
            .device
            .identity()
            .and_then(|identity| identity.physical)
        {
            return card.pci_address.is_some()
                || card.luid.is_some()
                || card.registry_entry_id.is_some();
        }
        false
    }
}

impl fmt::Display for DeviceKind {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::DiscreteGpu => "discrete GPU",
            Self::IntegratedGpu => "integrated GPU",
            Self::VirtualGpu => "virtual GPU",
            Self::OtherGpu => "GPU",
            Self::Cpu => "CPU",
            Self::SoftwareGpu => "software, on the CPU",
        })
    }
}

impl DeviceChoice {
    /// What `auto` is on this machine: a real GPU by the backend that suits it most, or the CPU. A GPU
    /// in software is slower than the CPU that it runs on. Any other choice is itself.
    pub fn settled(self) -> Self {
        if self != Self::Auto {
            return self;
        }
        [Backend::Cuda, Backend::Vulkan, Backend::Wgpu]
            .into_iter()
            .find(|backend| {
                let best = backend.present().into_iter().next();
                best.is_some_and(|best| best.kind < DeviceKind::Cpu && best.is_a_card())
            })
            .map_or_else(Self::default, |backend| Self::Of(backend, None))
    }

    /// What it is for one of several processes on a machine: each takes a GPU of its own, in turns where there
    /// are more processes than GPUs, unless a number is asked for.
    pub fn of_process(self, local_rank: usize) -> Self {
        match self.settled() {
            Self::Of(Backend::Cpu | Backend::Ndarray, None) | Self::Of(_, Some(_)) | Self::Auto => {
                self.settled()
            }
            Self::Of(backend, None) => {
                let present = backend.present().len();
                Self::Of(backend, (present > 0).then(|| local_rank % present))
            }
        }
    }

    /// Opens the device.
    ///
    /// # Errors
    /// If this build has no backend for it, or this machine no such device.
    pub fn open(self) -> Result<Device, TrainerError> {
        let Self::Of(backend, index) = self.settled() else {
            return Ok(Device::flex());
        };
        let device = backend.name();
        if !backend.is_built() {
            return Err(TrainerError::DeviceNotBuilt { device });
        }
        let (present, index) = (backend.present(), index.unwrap_or(0));
        match (present.len(), present.into_iter().nth(index)) {
            (_, Some(found)) => Ok(found.device),
            (0, None) => Err(TrainerError::NoDevice { device }),
            (count, None) => Err(TrainerError::TooFewDevices {
                device,
                count,
                index,
            }),
        }
    }
}

impl Default for DeviceChoice {
    fn default() -> Self {
        Self::Of(Backend::Cpu, None)
    }
}

impl fmt::Display for DeviceChoice {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Auto => formatter.write_str("auto"),
            Self::Of(backend, None) => formatter.write_str(backend.name()),
            Self::Of(backend, Some(index)) => write!(formatter, "{}:{index}", backend.name()),
        }
    }
}

impl FromStr for DeviceChoice {
    type Err = TrainerError;

    /// A backend's name, with the number of a device as in `cuda:1` or without, or `auto`.
    fn from_str(text: &str) -> Result<Self, TrainerError> {
        if text == "auto" {
            return Ok(Self::Auto);
        }
        let (name, index) = match text.split_once(':') {
            Some((name, index)) => (name, Some(index)),
            None => (text, None),
        };
        let unknown = || TrainerError::UnknownDevice {
            found: text.to_owned(),
        };
        let backend = Backend::ALL
            .into_iter()
            .find(|backend| backend.name() == name)
            .ok_or_else(unknown)?;
        let index = index.map(|index| index.parse().map_err(|_| unknown()));
        Ok(Self::Of(backend, index.transpose()?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_choice_is_written_as_it_is_read() {
        for text in ["auto", "cpu", "ndarray", "wgpu", "vulkan:0", "cuda:12"] {
            let choice: DeviceChoice = text.parse().expect("a choice");
            assert_eq!(choice.to_string(), text);
        }
        for text in [
            "", "gpu", "cuda:", "cuda:one", "cuda:-1", "auto:0", "cuda:1:2",
        ] {
            let error = text.parse::<DeviceChoice>().expect_err("no choice");
            assert!(error.to_string().contains(&format!("`{text}`")), "{error}");
        }
    }

    #[test]
    fn a_device_is_refused_by_what_is_missing() {
        let open = |text: &str| text.parse::<DeviceChoice>().expect("a choice").open();
        let error = open("cpu:3").expect_err("one processor").to_string();
        assert!(
            error.contains("`cpu:3`") && error.contains("1 device"),
            "{error}"
        );
        for backend in Backend::ALL
            .into_iter()
            .filter(|backend| !backend.is_built())
        {
            assert!(backend.present().is_empty());
            let error = open(backend.name()).expect_err("not built").to_string();
            assert!(
                error.contains(&format!("--features {}", backend.name())),
                "{error}"
            );
        }
    }

    #[test]
    fn processes_on_a_machine_keep_the_device_that_they_name() {
        for text in ["cpu", "cuda:1", "wgpu:0"] {
            let choice: DeviceChoice = text.parse().expect("a choice");
            for local_rank in [0, 3] {
                assert_eq!(choice.of_process(local_rank), choice);
            }
        }
    }

    #[test]
    fn auto_takes_no_gpu_that_is_software() {
        let device = DeviceChoice::Auto.open().expect("a device");
        assert_ne!(kind_of(&device), DeviceKind::SoftwareGpu);
    }
}
