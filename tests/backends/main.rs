//! Every other backend computes what the default one of the CPU does: ndarray, and GPUs where there is
//! one. A build without any has nothing to compare, so the comparisons are not part of it. The ndarray
//! backend is tested by `tests/ndarray.sh`, GPUs by `tests/gpu.sh`. A GPU in software is enough, but takes
//! minutes to compile and tune its kernels.

#[cfg(any(feature = "ndarray", feature = "gpu"))]
mod comparisons;
#[cfg(any(feature = "ndarray", feature = "gpu"))]
#[path = "../../crates/kernels/src/every_form.rs"]
mod every_form;
#[cfg(any(feature = "ndarray", feature = "gpu"))]
mod operations;
#[cfg(any(feature = "ndarray", feature = "gpu"))]
mod quantised;
#[path = "../support/mod.rs"]
mod support;

use eigenmix_trainer::{Backend, DeviceChoice};
use support::Workplace;

#[test]
fn devices_are_listed_with_what_is_missing() {
    let text = Workplace::new().run(&["devices"]).stdout;
    assert!(text.lines().any(|line| line.starts_with("cpu ")), "{text}");
    for backend in Backend::ALL {
        let line = text.lines().find(|line| line.starts_with(backend.name()));
        let line = line.expect("a line");
        let missing = format!("--features {}", backend.name());
        assert_eq!(line.contains(&missing), !backend.is_built(), "{line}");
    }
    let settled = DeviceChoice::Auto.settled();
    assert!(
        text.ends_with(&format!("--device auto uses {settled}\n")),
        "{text}"
    );
}
