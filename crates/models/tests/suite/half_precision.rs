//! Weights that stay in half precision give what their widened selves give.

use burn::module::{Module, ModuleVisitor, Param};
use burn::tensor::{DType, Device, Tensor};
use eigenmix_models::{Batch, HeadKind, Network, Precision, TokenBatch};
use eigenmix_tensors::Dtype;

use crate::small_models::{adapted_in, decoders, encoder};

fn tokens() -> Batch {
    let texts = [vec![3, 5, 8, 30, 2], vec![1, 2], vec![9, 9, 4, 6]];
    Batch::from(TokenBatch::continuing(&texts, &[0, 0, 0]))
}

/// How many of a model's values are kept in f32: an encoded weight is none of its parameters.
fn kept_in_f32(model: &Network) -> f64 {
    struct Wide(usize);
    impl ModuleVisitor for Wide {
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            let values = param.val();
            assert_eq!(values.dtype(), DType::F32);
            self.0 += values.shape().num_elements();
        }
    }
    let mut found = Wide(0);
    model.visit(&mut found);
    found.0 as f64
}

#[test]
fn logits_losses_and_texts_are_those_of_the_widened_weights() {
    let device = Device::flex();
    let mut models = decoders();
    let mut heads = vec![HeadKind::LanguageModel; models.len()];
    models.push(("bert", encoder()));
    heads.push(HeadKind::Classification { labels: 3 });
    for ((family, config), head) in models.into_iter().zip(heads) {
        let run = |precision| -> (f64, Vec<Tensor<2>>) {
            let model = adapted_in(&config, head, Dtype::BF16, precision, &device).model;
            let wide = kept_in_f32(&model);
            let mut found = vec![model.forward(&tokens(), &device)];
            if head == HeadKind::LanguageModel {
                let hidden = model.hidden_states(&tokens(), &device);
                let loss = model.next_token_loss(hidden, &[0, 3, 8], &[7, 11, 2], 0.0);
                found.push(loss.reshape([1, 1]));
            }
            (wide, found)
        };
        let (kept, stored) = run(Precision::Stored);
        let (all, widened) = run(Precision::Float32);
        // All but the updates, the norms, the biases and the head.
        assert!(kept < 0.4 * all, "{family}: {kept} of {all} in f32");
        for (found, expected) in stored.into_iter().zip(widened) {
            assert_eq!(found.dtype(), DType::F32, "{family}");
            let scale = expected.clone().abs().max().into_scalar::<f32>();
            let difference = (found - expected).abs().max().into_scalar::<f32>();
            // The same f32 products of the same numbers.
            assert!(
                difference <= 1e-6 * scale,
                "{family}: {difference} of {scale}"
            );
        }
    }
}
