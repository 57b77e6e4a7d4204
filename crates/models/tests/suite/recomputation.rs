//! Gradient checkpointing changes the memory of a step and nothing else.

use std::collections::BTreeMap;

use burn::module::{Module, ModuleVisitor, Param};
use burn::tensor::{Device, Gradients, Tensor};
use eigenmix_models::{Batch, HeadKind, ImageBatch, Loaded, Recomputation, TokenBatch};
use eigenmix_moslora::ParameterNames;

use crate::small_models::{adapted, decoders, encoder, from_scratch, vision};

/// Adds the gradients of everything that is trained, by name.
struct Collect<'a> {
    names: &'a ParameterNames,
    gradients: &'a Gradients,
    found: &'a mut BTreeMap<String, Vec<f32>>,
}

impl ModuleVisitor for Collect<'_> {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        let Some(name) = self.names.get(param.id) else {
            return;
        };
        if let Some(gradient) = param.val().grad(self.gradients) {
            let values: Vec<f32> = gradient.into_data().try_to_vec().expect("f32");
            let sum = self
                .found
                .entry(name.to_owned())
                .or_insert_with(|| vec![0.0; values.len()]);
            sum.iter_mut()
                .zip(values)
                .for_each(|(sum, value)| *sum += value);
        }
    }
}

fn compare(loaded: &Loaded, batch: &Batch, device: &Device, what: &str) {
    let Loaded { model, names, .. } = loaded;
    let objective = |hidden| model.logits(hidden).square().mean();
    let mut expected = BTreeMap::new();
    let loss = objective(model.hidden_states(batch, device));
    model.visit(&mut Collect {
        names,
        gradients: &loss.backward(),
        found: &mut expected,
    });
    let mut found = BTreeMap::new();
    let recomputation = Recomputation { before: &|_| {} };
    let again = model.backward_by_layers(batch, device, &recomputation, objective, |gradients| {
        model.visit(&mut Collect {
            names,
            gradients: &gradients,
            found: &mut found,
        });
    });
    let (loss, again) = (loss.into_scalar::<f32>(), again.into_scalar::<f32>());
    assert!(
        (loss - again).abs() < 1e-6 * loss.abs(),
        "{what}: {loss} {again}"
    );
    assert_eq!(
        found.keys().collect::<Vec<_>>(),
        expected.keys().collect::<Vec<_>>(),
        "{what}"
    );
    for (name, expected) in &expected {
        let largest = expected.iter().fold(0.0f32, |all, one| all.max(one.abs()));
        for (found, expected) in found[name].iter().zip(expected) {
            // The same f32 operations; only sums over layers may be in another order.
            let difference = (found - expected).abs();
            assert!(
                difference <= 1e-5 * largest,
                "{what}, {name}: {difference} of {largest}"
            );
        }
    }
}

fn tokens() -> Batch {
    let texts = [vec![3, 5, 8, 30, 2], vec![1, 2], vec![9, 9, 4, 6]];
    Batch::from(TokenBatch::continuing(&texts, &[0, 0, 0]))
}

#[test]
fn gradients_of_updates_and_of_all_weights_are_the_same_layer_by_layer() {
    let device = Device::flex().autodiff();
    let classification = HeadKind::Classification { labels: 3 };
    for load in [adapted, from_scratch] {
        for (family, config) in decoders() {
            let loaded = load(&config, HeadKind::LanguageModel, &device);
            compare(&loaded, &tokens(), &device, family);
        }
        let loaded = load(&encoder(), classification, &device);
        compare(&loaded, &tokens(), &device, "bert");
        let loaded = load(&vision(), classification, &device);
        let pixels = (0..2 * 3 * 64).map(|i| (i as f32 * 0.7).sin()).collect();
        let images = Batch::from(ImageBatch::new(pixels, [2, 3, 8]));
        compare(&loaded, &images, &device, "vit");
    }
}
