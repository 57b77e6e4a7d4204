//! Heads: from hidden states to a model's outputs.

use burn::module::Module;
use burn::nn::{Dropout, DropoutConfig};
use burn::tensor::{Int, Tensor, TensorData, activation};
use eigenmix_kernels::{linear_cross_entropy, smoothed_cross_entropy};
use eigenmix_moslora::AdaptedLinear;

use crate::body::Body;
use crate::builder::Builder;
use crate::read_rows::ReadRows;
use crate::zero_shot::ZeroShotHead;
use crate::{Architecture, Batch, HeadKind, LinearLayer, ModelError, Train};

/// How a head computes its outputs, and which rows it reads.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum HeadForm {
    /// On the first token: pooler, tanh, classifier.
    Bert,
    /// On the first token: classifier.dense, tanh, classifier.out_proj.
    Roberta,
    /// On the first token: pre_classifier, ReLU, classifier.
    DistilBert,
    /// On the first row.
    First,
    /// On the last token.
    Last,
    /// On every token, with logits squeezed into ±softcap where there is one.
    Tokens { softcap: Option<f32> },
}

/// The head of a task.
#[derive(Module, Debug)]
pub(crate) struct Head {
    layers: HeadLayers,
    dropout: Dropout,
}

#[derive(Module, Debug)]
enum HeadLayers {
    Bert(DenseHead),
    Roberta(DenseHead),
    DistilBert(DenseHead),
    First(AdaptedLinear),
    /// On the first row, with the text features of the labels.
    ZeroShot(ZeroShotHead),
    Last(AdaptedLinear),
    Tokens(TokenHead),
}

#[derive(Module, Debug)]
struct DenseHead {
    dense: AdaptedLinear,
    output: AdaptedLinear,
}

#[derive(Module, Debug)]
struct TokenHead {
    /// `None` where the embedding table is the output layer too.
    output: Option<AdaptedLinear>,
    #[module(skip)]
    softcap: Option<f32>,
}

impl Head {
    /// - dropout: the probability of dropping an activation while training
    ///
    /// # Errors
    /// If the model cannot have such a head, or a tensor is missing or has another shape.
    pub fn build(
        builder: &mut Builder,
        architecture: &Architecture,
        kind: HeadKind,
        dropout: f64,
    ) -> Result<Self, ModelError> {
        let layers = architecture.require_head_layers(kind)?;
        Ok(Self {
            layers: HeadLayers::build(builder, &layers, architecture.head_form(kind), kind)?,
            dropout: DropoutConfig::new(dropout).init(),
        })
    }

    /// The rows of the last layer's output that it reads; `None`: all of them.
    pub fn rows_read(&self, body: &Body, batch: &Batch) -> Option<Vec<i32>> {
        match &self.layers {
            HeadLayers::Tokens(_) => None,
            HeadLayers::Last(_) => Some(body.last_rows(batch)),
            _ => Some(body.first_rows(batch)),
        }
    }

    /// - body: may have the output layer as its embedding table
    /// - hidden: `[rows, d_model]`, after the final norm
    /// - output: `[rows, outputs]`
    pub fn forward(&self, body: &Body, hidden: Tensor<2>) -> Tensor<2> {
        let dropout = |hidden: Tensor<2>| self.dropout.forward(hidden);
        match &self.layers {
            HeadLayers::Bert(head) => {
                let pooled = activation::tanh(head.dense.forward(hidden));
                head.output.forward(dropout(pooled))
            }
            HeadLayers::Roberta(head) => {
                let pooled = activation::tanh(head.dense.forward(dropout(hidden)));
                head.output.forward(dropout(pooled))
            }
            HeadLayers::DistilBert(head) => {
                let pooled = activation::relu(head.dense.forward(hidden));
                head.output.forward(dropout(pooled))
            }
            HeadLayers::First(output) | HeadLayers::Last(output) => output.forward(hidden),
            HeadLayers::ZeroShot(head) => head.forward(hidden),
            HeadLayers::Tokens(head) => {
                let logits = match &head.output {
                    Some(output) => output.forward(hidden),
                    None => body.decoder().token_embeddings.product(hidden),
                };
                match head.softcap {
                    Some(cap) => (logits / cap).tanh() * cap,
                    None => logits,
                }
            }
        }
    }

    /// The mean cross-entropy of a language model's predictions.
    ///
    /// - hidden: `[rows, d_model]`, after the final norm
    /// - targets: the token that comes after each row
    /// - smoothing: the share of each target that is spread over the vocabulary
    ///
    /// # Panics
    /// If it is not the head of a language model, or there are no rows.
    pub fn next_token_loss(
        &self,
        body: &Body,
        hidden: Tensor<2>,
        targets: &[i32],
        smoothing: f32,
    ) -> Tensor<1> {
        let HeadLayers::Tokens(head) = &self.layers else {
            panic!("next tokens are predicted by language models only");
        };
        let weight = match &head.output {
            Some(output) => output.plain_weight(),
            None => Some(&body.decoder().token_embeddings),
        };
        match weight {
            Some(weight) => linear_cross_entropy(hidden, weight, targets, head.softcap, smoothing),
            None => smoothed_cross_entropy(self.forward(body, hidden), targets, smoothing),
        }
    }
}

impl HeadLayers {
    fn build(
        builder: &mut Builder,
        layers: &[LinearLayer],
        form: HeadForm,
        kind: HeadKind,
    ) -> Result<Self, ModelError> {
        let task_head = kind.is_of_task();
        Ok(match form {
            HeadForm::Bert => Self::Bert(DenseHead::build(builder, layers)?),
            HeadForm::Roberta => Self::Roberta(DenseHead::build(builder, layers)?),
            HeadForm::DistilBert => Self::DistilBert(DenseHead::build(builder, layers)?),
            HeadForm::Tokens { softcap } => {
                // The output layer of a language model is part of the pretrained model.
                let output = layers
                    .first()
                    .map(|layer| builder.linear(layer))
                    .transpose()?;
                Self::Tokens(TokenHead { output, softcap })
            }
            HeadForm::Last => Self::Last(builder.head(&layers[0])?),
            HeadForm::First => match kind {
                HeadKind::ZeroShot { labels } => {
                    Self::ZeroShot(ZeroShotHead::build(builder, &layers[0], labels)?)
                }
                _ if task_head => Self::First(builder.head(&layers[0])?),
                // A projection of the base model.
                _ => Self::First(builder.linear(&layers[0])?),
            },
        })
    }
}

impl DenseHead {
    fn build(builder: &mut Builder, layers: &[LinearLayer]) -> Result<Self, ModelError> {
        let [dense, output] = layers else {
            unreachable!("such a head has two layers");
        };
        // BERT's pooler is part of the pretrained model; where a checkpoint lacks it, it is as new as
        // the classifier and trained with it.
        let name = format!("{}.weight", dense.path);
        // One that a training starts from came with a head, and is trained with it as before.
        let is_brought = builder.brings(&name);
        let is_frozen = match builder.train {
            Train::Nothing => builder.has(&name) || is_brought,
            Train::Head => builder.has(&name) && !is_brought,
            Train::Everything => false,
        };
        let dense = match is_frozen && !dense.head {
            true => builder.linear(dense)?,
            false => builder.head(dense)?,
        };
        let output = builder.head(output)?;
        Ok(Self { dense, output })
    }
}

/// log softmax(logits)[target], row by row.
///
/// - logits: `[rows, outputs]`
/// - output: `[rows]`
pub(crate) fn log_probabilities(logits: Tensor<2>, targets: &[i32]) -> Tensor<1> {
    let device = logits.device();
    let rows = targets.len();
    let targets = TensorData::new(targets.to_vec(), [rows, 1]);
    activation::log_softmax(logits, 1)
        .gather(1, Tensor::<2, Int>::from_data(targets, &device))
        .reshape([rows])
}

/// Some rows of hidden states `[rows, d_model]`.
pub(crate) fn select(hidden: Tensor<2>, rows: &[i32]) -> Tensor<2> {
    ReadRows::new(rows.to_vec()).select(hidden)
}
