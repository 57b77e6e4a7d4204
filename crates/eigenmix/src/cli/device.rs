//! The value of `--device`.

use std::ffi::OsStr;

use clap::builder::{PossibleValue, PossibleValuesParser, TypedValueParser};
use clap::{Arg, Command, Error};
use eigenmix_trainer::{Backend, DeviceChoice};

/// Suggests the backends' names, and takes the number of a device behind one.
pub(super) fn parser() -> impl TypedValueParser<Value = DeviceChoice> {
    let names = Backend::ALL.into_iter().map(Backend::name);
    DeviceParser(PossibleValuesParser::new(names.chain(["auto"])))
}

#[derive(Clone)]
struct DeviceParser(PossibleValuesParser);

impl TypedValueParser for DeviceParser {
    type Value = DeviceChoice;

    fn parse_ref(
        &self,
        command: &Command,
        argument: Option<&Arg>,
        value: &OsStr,
    ) -> Result<DeviceChoice, Error> {
        match value.to_str().and_then(|text| text.parse().ok()) {
            Some(choice) => Ok(choice),
            // Says which names there are, and the nearest one.
            None => {
                let names = self.0.clone().try_map(|name| name.parse());
                names.parse_ref(command, argument, value)
            }
        }
    }

    fn possible_values(&self) -> Option<Box<dyn Iterator<Item = PossibleValue> + '_>> {
        self.0.possible_values()
    }
}
