//! Prints how an adapter matched its base model, before its results.

use eigenmix_models::LoadReport;

use crate::listener::Listener;

/// Prints what matched, and warns of anything without effect.
pub(crate) fn show(report: &LoadReport, listener: &dyn Listener) {
    listener.detail(&format_args!(
        "adapter: {} modules matched, {} missing, {} unexpected, {} without effect, {} tensors of the head, {} other tensors in their trained state",
        report.matched.len(),
        report.missing.len(),
        report.unexpected.len(),
        report.no_effect.len(),
        report.heads.len(),
        report.whole.len()
    ));
    for (paths, what) in [
        (&report.missing, "targets modules that its file lacks"),
        (
            &report.unexpected,
            "has tensors that match nothing in the base model",
        ),
        (
            &report.no_effect,
            "has modules without effect, their update is zero",
        ),
    ] {
        if let Some(first) = paths.first() {
            let count = paths.len();
            listener.warn(&format_args!(
                "the adapter {what}: {count}, such as `{first}`"
            ));
        }
    }
}
