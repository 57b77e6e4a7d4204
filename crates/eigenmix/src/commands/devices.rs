//! `eigenmix devices`: what this build can run models on.

use std::fmt;

use serde::Serialize;
use trainer::DeviceChoice;

use crate::console::Console;
use crate::table::Table;

pub(crate) fn run(console: &Console) -> anyhow::Result<()> {
    let devices = DeviceChoice::ALL
        .iter()
        .map(|choice| Device {
            name: choice.name(),
            built: choice.is_built(),
            note: match choice {
                DeviceChoice::Cpu => format!("{} threads", rayon::current_num_threads()),
                other if other.is_built() => "in this build".to_owned(),
                other => format!("build with --features {}", other.name()),
            },
        })
        .collect();
    console.result(&Devices { devices })
}

#[derive(Serialize)]
struct Devices {
    devices: Vec<Device>,
}

#[derive(Serialize)]
struct Device {
    name: &'static str,
    built: bool,
    note: String,
}

impl fmt::Display for Devices {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut table = Table::with_header(["device", "built", "note"]);
        for device in &self.devices {
            let built = if device.built { "yes" } else { "no" };
            table.push([device.name, built, &device.note]);
        }
        table.fmt(formatter)
    }
}
