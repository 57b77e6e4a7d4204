//! With the cache, every token goes through a decoder once; the logits are those of the whole text.

use burn::tensor::{Device, Tensor};
use eigenmix_models::{Batch, HeadKind, TokenBatch};

use crate::small_models::{adapted, decoders};

fn last_rows(logits: Tensor<2>, batch: &TokenBatch) -> Vec<Tensor<2>> {
    let [_, vocabulary] = logits.dims();
    batch.offsets()[1..]
        .iter()
        .map(|&end| logits.clone().slice([end - 1..end, 0..vocabulary]))
        .collect()
}

#[test]
fn cached_logits_are_those_of_the_whole_text_in_every_family() {
    let device = Device::flex();
    let text = |seed: u32, length: u32| -> Vec<u32> {
        (0..length).map(|i| (seed + i * i * 7 + i) % 37).collect()
    };
    // Longer than the windows of Mistral and Gemma.
    let texts = [text(1, 11), text(2, 7), text(3, 9)];
    for (family, config) in decoders() {
        let model = adapted(&config, HeadKind::LanguageModel, &device).model;
        let mut cache = model.cache(texts.len());
        // Prompts of different lengths first, then a token at a time.
        let mut seen = [5, 1, 3];
        let mut next: Vec<Vec<u32>> = texts
            .iter()
            .zip(seen)
            .map(|(text, seen)| text[..seen].to_vec())
            .collect();
        for _ in 0..6 {
            let step = Batch::from(TokenBatch::continuing(&next, cache.lengths()));
            let cached = model.next_token(&step, &mut cache, &device);
            let [_, vocabulary] = cached.dims();
            let so_far: Vec<Vec<u32>> = texts
                .iter()
                .zip(seen)
                .map(|(text, seen)| text[..seen].to_vec())
                .collect();
            let whole = TokenBatch::continuing(&so_far, &[0, 0, 0]);
            let logits = model.forward(&Batch::from(whole.clone()), &device);
            for (row, expected) in last_rows(logits, &whole).into_iter().enumerate() {
                let found = cached.clone().slice([row..row + 1, 0..vocabulary]);
                let scale = expected.clone().abs().max().into_scalar::<f32>();
                let difference = (found - expected).abs().max().into_scalar::<f32>();
                // f32 sums in other blocks, three layers deep.
                assert!(
                    difference < 2e-5 * scale,
                    "{family}: {difference} of {scale}"
                );
            }
            next = texts
                .iter()
                .zip(seen)
                .map(|(text, seen)| vec![text[seen]])
                .collect();
            seen = seen.map(|seen| seen + 1);
        }
    }
}

#[test]
fn a_text_that_ended_leaves_the_others_as_they_are() {
    let device = Device::flex();
    let (_, config) = decoders().remove(0);
    let model = adapted(&config, HeadKind::LanguageModel, &device).model;
    let prompts = vec![vec![3, 5, 8], vec![1, 2], vec![9, 9, 4, 6]];
    let step = |prompts: &[Vec<u32>], keep: &[usize]| {
        let mut cache = model.cache(prompts.len());
        let batch = Batch::from(TokenBatch::continuing(prompts, cache.lengths()));
        model.next_token(&batch, &mut cache, &device);
        cache.keep(keep);
        let next = vec![vec![7]; keep.len()];
        let batch = Batch::from(TokenBatch::continuing(&next, cache.lengths()));
        model.next_token(&batch, &mut cache, &device)
    };
    let kept = step(&prompts, &[0, 2]);
    let alone = step(&[prompts[0].clone(), prompts[2].clone()], &[0, 1]);
    let difference = (kept - alone).abs().max().into_scalar::<f32>();
    assert!(difference < 1e-5, "{difference}");
}
