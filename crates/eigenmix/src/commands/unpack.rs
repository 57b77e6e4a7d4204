//! `eigenmix unpack`: plain adapters out of a store.

use eigenmix_experiment::UnpackRequest;

use crate::cli::UnpackArguments;
use crate::console::Console;

pub(crate) fn run(arguments: &UnpackArguments, console: &Console) -> anyhow::Result<()> {
    let request = UnpackRequest {
        store: arguments.store.clone(),
        out: arguments.out.clone(),
        force: arguments.force,
    };
    console.result(&eigenmix_experiment::unpack_adapters(&request)?)
}
