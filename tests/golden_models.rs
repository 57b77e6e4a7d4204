//! Logits of other people's software (transformers and PEFT, see ../shared/golden/README.md) through
//! the whole command line: base model, and every adapter variant that PEFT saved for it.

mod support;

use adapter::TensorFile;
use support::{Workplace, largest_difference, shared};

/// The logits are of size one; the references themselves are f32.
const TOLERANCE: f32 = 1e-4;

fn agrees_with_the_reference(model: &str) {
    let Some(folder) = shared(&format!("golden/models/{model}")) else {
        return;
    };
    let reference = TensorFile::open(&folder.join("reference.safetensors")).expect("a reference");
    let place = Workplace::new();
    let path = |name: &str| folder.join(name).to_str().expect("UTF-8").to_owned();
    let (base, inputs) = (path("base"), path("reference.safetensors"));
    let mut variants = 0;
    for name in reference.names().filter(|name| name.starts_with("logits.")) {
        let variant = &name["logits.".len()..];
        let adapter = path(&format!("adapter-{variant}"));
        let mut arguments = vec!["forward", "--base", &base, "--inputs", &inputs];
        arguments.extend(["--out", "out.safetensors", "--force"]);
        if variant != "base" {
            arguments.extend(["--adapter", &adapter]);
        }
        let outcome = place.run(&arguments);
        assert_eq!(outcome.status, 0, "{model}, {variant}: {outcome:?}");
        let expected = reference.read_f32(name).expect("logits");
        let found = TensorFile::open(&place.path("out.safetensors"))
            .and_then(|file| file.read_f32("logits"))
            .expect("logits");
        let difference = largest_difference(&found, &expected);
        assert!(difference < TOLERANCE, "{model}, {variant}: {difference}");
        variants += 1;
    }
    assert!(variants >= 6, "{model}: only {variants} variants");
}

#[test]
fn bert_gives_the_logits_of_transformers_and_peft() {
    agrees_with_the_reference("bert");
}

#[test]
fn roberta_gives_the_logits_of_transformers_and_peft() {
    agrees_with_the_reference("roberta");
}

#[test]
fn distilbert_gives_the_logits_of_transformers_and_peft() {
    agrees_with_the_reference("distilbert");
}
