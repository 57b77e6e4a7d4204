//! Which adapters are refused.

use crate::reference::{Reference, forms};

#[test]
fn an_adapter_of_the_other_kind_of_model_is_refused_by_its_kind() {
    for (kind, other, expected) in [
        (
            "sd",
            "sdxl",
            "for SDXL, the base model is Stable Diffusion 1.x or 2.x",
        ),
        (
            "sdxl",
            "sd",
            "for Stable Diffusion 1.x or 2.x, the base model is SDXL",
        ),
    ] {
        let reference = Reference::of(kind);
        for (form, adapter) in forms(other, "attention") {
            let error = match reference.unet(Some(&adapter)) {
                Ok(_) => panic!("{form} of {other} on {kind}"),
                Err(error) => error.to_string(),
            };
            assert!(error.contains(expected), "{form}: {error}");
        }
    }
}
