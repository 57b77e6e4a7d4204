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

/// The share of a model's parameters that are kept in bf16.
fn share_in_half_precision(model: &Network) -> f64 {
    struct InHalf(usize);
    impl ModuleVisitor for InHalf {
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            let values = param.val();
            if values.dtype() == DType::BF16 {
                self.0 += values.shape().num_elements();
            }
        }
    }
    let mut found = InHalf(0);
    model.visit(&mut found);
    found.0 as f64 / model.num_params() as f64
}

#[test]
fn logits_losses_and_texts_are_those_of_the_widened_weights() {
    let device = Device::flex();
    let mut models = decoders();
    let mut heads = vec![HeadKind::LanguageModel; models.len()];
    models.push(("bert", encoder()));
    heads.push(HeadKind::Classification { labels: 3 });
    for ((family, config), head) in models.into_iter().zip(heads) {
        let run = |precision| -> Vec<Tensor<2>> {
            let model = adapted_in(&config, head, Dtype::BF16, precision, &device).model;
            let share = share_in_half_precision(&model);
            match precision {
                // All but the updates, the norms, the biases and the head.
                Precision::Stored => assert!(share > 0.6, "{family}: {share}"),
                _ => assert_eq!(share, 0.0, "{family}"),
            }
            let mut found = vec![model.forward(&tokens(), &device)];
            if head == HeadKind::LanguageModel {
                let hidden = model.hidden_states(&tokens(), &device);
                let loss = model.next_token_loss(hidden, &[0, 3, 8], &[7, 11, 2], 0.0);
                found.push(loss.reshape([1, 1]));
            }
            found
        };
        let (stored, widened) = (run(Precision::Stored), run(Precision::Float32));
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
