//! Logits of other people's software (transformers and PEFT, see golden/README.md) through the whole
//! command line: base model, and every adapter variant that PEFT saved for it.

mod support;
use std::path::Path;

use eigenmix_tensors::TensorFile;
use support::{Workplace, largest_difference};

/// Relative to the largest logit; the references themselves are f32, and up to 1.3e-6 from f64.
const TOLERANCE: f32 = 2e-5;

/// Which logits are compared: all, but for the padding of a language model.
fn compared(reference: &TensorFile, shape: &[usize]) -> Vec<bool> {
    let &[batch, length, vocabulary] = shape else {
        return vec![true; shape.iter().product()];
    };
    let mask = reference
        .read_i64("input.attention_mask")
        .expect("a mask of [batch, length]");
    assert_eq!(mask.len(), batch * length);
    mask.iter()
        .flat_map(|&one| std::iter::repeat_n(one != 0, vocabulary))
        .collect()
}

fn agrees_with_the_reference(model: &str) {
    let models = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden/models");
    let folder = models.join(model);
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
        let compared = compared(&reference, reference.shape(name).expect("a shape"));
        let keep = |logits: Vec<f32>| -> Vec<f32> {
            assert_eq!(logits.len(), compared.len(), "{model}, {variant}");
            let pairs = logits.into_iter().zip(&compared);
            pairs
                .filter(|(_, kept)| **kept)
                .map(|(logit, _)| logit)
                .collect()
        };
        let (found, expected) = (keep(found), keep(expected));
        let largest = expected
            .iter()
            .fold(0.0f32, |all, logit| all.max(logit.abs()));
        let difference = largest_difference(&found, &expected) / largest;
        println!("{model}, {variant}: {difference:e} of {largest}");
        assert!(difference < TOLERANCE, "{model}, {variant}: {difference}");
        variants += 1;
    }
    assert_eq!(variants, 7, "{model}: the base model and six variants");
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

#[test]
fn llama_gives_the_logits_of_transformers_and_peft() {
    agrees_with_the_reference("llama");
}

#[test]
fn llama3_rope_gives_the_logits_of_transformers_and_peft() {
    agrees_with_the_reference("llama3-rope");
}

#[test]
fn mistral_gives_the_logits_of_transformers_and_peft() {
    agrees_with_the_reference("mistral");
}

#[test]
fn qwen2_gives_the_logits_of_transformers_and_peft() {
    agrees_with_the_reference("qwen2");
}

#[test]
fn qwen3_gives_the_logits_of_transformers_and_peft() {
    agrees_with_the_reference("qwen3");
}

#[test]
fn gemma2_gives_the_logits_of_transformers_and_peft() {
    agrees_with_the_reference("gemma2");
}

#[test]
fn gpt2_gives_the_logits_of_transformers_and_peft() {
    agrees_with_the_reference("gpt2");
}

#[test]
fn llama_as_a_classifier_gives_the_logits_of_transformers_and_peft() {
    agrees_with_the_reference("llama-seqcls");
}

#[test]
fn vit_gives_the_logits_of_transformers_and_peft() {
    agrees_with_the_reference("vit");
}

#[test]
fn clip_vision_gives_the_logits_of_transformers_and_peft() {
    agrees_with_the_reference("clip-vision");
}
