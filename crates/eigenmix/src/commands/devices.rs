//! `eigenmix devices`: the devices of this build and machine.

use std::fmt;

use eigenmix_experiment::Table;
use eigenmix_trainer::{Backend, DeviceChoice, PresentDevice};
use serde::Serialize;

use crate::console::Console;

pub(crate) fn run(console: &Console) -> anyhow::Result<()> {
    let devices = Backend::ALL
        .into_iter()
        .map(|backend| {
            let present = backend.present().into_iter().enumerate();
            Device {
                name: backend.name(),
                built: backend.is_built(),
                present: present
                    .map(|(index, device)| Present::new(backend, index, &device))
                    .collect(),
            }
        })
        .collect();
    console.result(&Devices {
        devices,
        auto: DeviceChoice::Auto.settled().to_string(),
    })
}

#[derive(Serialize)]
struct Devices {
    devices: Vec<Device>,
    /// The device that `--device auto` uses.
    auto: String,
}

#[derive(Serialize)]
struct Device {
    name: &'static str,
    built: bool,
    present: Vec<Present>,
}

#[derive(Serialize)]
struct Present {
    /// Its name for `--device`.
    device: String,
    name: String,
    kind: String,
}

impl Present {
    fn new(backend: Backend, index: usize, device: &PresentDevice) -> Self {
        let threads = || match rayon::current_num_threads() {
            1 => "1 thread".to_owned(),
            threads => format!("{threads} threads"),
        };
        Self {
            device: match index {
                0 => backend.name().to_owned(),
                _ => DeviceChoice::Of(backend, Some(index)).to_string(),
            },
            name: device.name().unwrap_or_else(threads),
            kind: device.kind.to_string(),
        }
    }
}

impl fmt::Display for Devices {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut table = Table::with_header(["device", "kind", "name"]).with_text_in([1, 2]);
        for device in &self.devices {
            for present in &device.present {
                table.push([&present.device, &present.kind, &present.name]);
            }
            let missing = match device.built {
                false => format!("build with --features {}", device.name),
                true if device.present.is_empty() => {
                    "none found; is a driver installed?".to_owned()
                }
                true => continue,
            };
            table.push([device.name, "–", &missing]);
        }
        writeln!(formatter, "{table}")?;
        write!(formatter, "--device auto uses {}", self.auto)
    }
}
