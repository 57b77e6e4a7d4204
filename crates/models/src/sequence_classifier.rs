//! An encoder with a classification head: one row of logits a sequence.

use burn::module::Module;
use burn::nn::{Dropout, DropoutConfig};
use burn::tensor::{Device, Int, Tensor, TensorData, activation};
use moslora::{AdaptedLinear, ParameterNames};

use crate::builder::Builder;
use crate::encoder::{Encoder, EncoderConfig};
use crate::{Adaptation, Checkpoint, Description, Family, LinearLayer, ModelError, Train};

/// A sequence classifier, or with one label and a regression loss a scorer.
#[derive(Module, Debug)]
pub struct SequenceClassifier {
    encoder: Encoder,
    head: Head,
    dropout: Dropout,
}

/// What the families put on the first token's vector.
#[derive(Module, Debug)]
enum Head {
    /// pooler, tanh, classifier.
    Bert(DenseHead),
    /// classifier.dense, tanh, classifier.out_proj.
    Roberta(DenseHead),
    /// pre_classifier, ReLU, classifier.
    DistilBert(DenseHead),
}

#[derive(Module, Debug)]
struct DenseHead {
    dense: AdaptedLinear,
    output: AdaptedLinear,
}

/// How a model is put together.
pub struct LoadOptions<'a> {
    /// How many outputs the head has.
    pub labels: usize,
    pub adaptation: &'a Adaptation,
    pub train: Train,
    /// The probability of dropping an activation of the base model while training.
    pub dropout: f64,
    /// For what is drawn at random: a new head, or everything where there are no weights.
    pub seed: u64,
}

/// A loaded model and what is trained in it.
pub struct Loaded {
    pub model: SequenceClassifier,
    /// The names of everything that is trained: updates' factors as `MODULE/FACTOR`, tensors of
    /// the model under their own names.
    pub names: ParameterNames,
    /// Tensors that were drawn at random because nothing provided them.
    pub initialised: Vec<String>,
}

/// The paths of the two layers of a family's head.
fn head_paths(family: Family) -> [&'static str; 2] {
    match family {
        Family::Bert => ["bert.pooler.dense", "classifier"],
        Family::Roberta => ["classifier.dense", "classifier.out_proj"],
        Family::DistilBert => ["pre_classifier", "classifier"],
    }
}

impl SequenceClassifier {
    /// The layers of a classifier with `labels` outputs.
    pub fn describe(config: &EncoderConfig, labels: usize) -> Description {
        let [dense, output] = head_paths(config.family);
        let d_model = config.d_model;
        let mut layers = config.layers();
        let shapes = [(dense, d_model, d_model), (output, labels, d_model)];
        let head = |path: &str| path != "bert.pooler.dense";
        layers.extend(shapes.map(|(path, d_out, d_in)| LinearLayer {
            path: path.to_owned(),
            d_out,
            d_in,
            head: head(path),
        }));
        let head_tensors = shapes
            .iter()
            .flat_map(|(path, d_out, d_in)| {
                [
                    (format!("{path}.weight"), vec![*d_out, *d_in]),
                    (format!("{path}.bias"), vec![*d_out]),
                ]
            })
            .collect();
        let head_parameters: usize = shapes
            .iter()
            .map(|(_, d_out, d_in)| d_out * (d_in + 1))
            .sum();
        Description {
            prefix: config.family.prefix(),
            layers,
            head_tensors,
            head_modules: match config.family {
                Family::Bert | Family::Roberta => vec!["classifier"],
                Family::DistilBert => vec!["pre_classifier", "classifier"],
            },
            parameters: config.parameters() + head_parameters,
        }
    }

    /// The tensor whose first dimension is the number of outputs.
    pub fn output_weight(family: Family) -> String {
        let [_, output] = head_paths(family);
        format!("{output}.weight")
    }

    /// Builds the model of `checkpoint` on `device` with the adaptation on top.
    ///
    /// # Errors
    /// If a tensor is missing or has another shape than the configuration implies.
    pub fn load(
        checkpoint: &Checkpoint,
        config: &EncoderConfig,
        options: &LoadOptions,
        device: &Device,
    ) -> Result<Loaded, ModelError> {
        let mut builder = Builder {
            checkpoint,
            adaptation: options.adaptation,
            prefix: config.family.prefix(),
            train: options.train,
            seed: options.seed,
            device,
            names: ParameterNames::default(),
            initialised: Vec::new(),
        };
        let encoder = Encoder::build(&mut builder, config, options.dropout)?;
        let [dense_path, output_path] = head_paths(config.family);
        let square = [config.d_model, config.d_model];
        // BERT's pooler is part of the pretrained model; where a checkpoint lacks it, it is as new
        // as the classifier and trained with it.
        let pooler = config.family == Family::Bert
            && (builder.has(&format!("{dense_path}.weight"))
                || options
                    .adaptation
                    .tensors
                    .contains_key(&format!("{dense_path}.weight")));
        let dense = match pooler && options.train != Train::Everything {
            true => builder.linear(dense_path, square)?,
            false => builder.head(dense_path, square)?,
        };
        let head = DenseHead {
            dense,
            output: builder.head(output_path, [options.labels, config.d_model])?,
        };
        let model = Self {
            encoder,
            head: match config.family {
                Family::Bert => Head::Bert(head),
                Family::Roberta => Head::Roberta(head),
                Family::DistilBert => Head::DistilBert(head),
            },
            dropout: DropoutConfig::new(options.dropout).init(),
        };
        Ok(Loaded {
            model,
            names: builder.names,
            initialised: builder.initialised,
        })
    }

    /// - output: logits `[sequences, labels]`
    pub fn forward(&self, batch: &crate::TokenBatch, device: &Device) -> Tensor<2> {
        let hidden = self.encoder.forward(batch, device);
        let starts: Vec<i32> = batch.offsets()[..batch.sequences()]
            .iter()
            .map(|&offset| offset as i32)
            .collect();
        let starts = TensorData::new(starts, [batch.sequences()]);
        let first = hidden.select(0, Tensor::<1, Int>::from_data(starts, device));
        self.head.forward(first, &self.dropout)
    }
}

impl Head {
    /// - first: `[sequences, d_model]`, the first token of each sequence
    /// - output: `[sequences, labels]`
    fn forward(&self, first: Tensor<2>, dropout: &Dropout) -> Tensor<2> {
        match self {
            Self::Bert(head) => {
                let pooled = activation::tanh(head.dense.forward(first));
                head.output.forward(dropout.forward(pooled))
            }
            Self::Roberta(head) => {
                let pooled = activation::tanh(head.dense.forward(dropout.forward(first)));
                head.output.forward(dropout.forward(pooled))
            }
            Self::DistilBert(head) => {
                let pooled = activation::relu(head.dense.forward(first));
                head.output.forward(dropout.forward(pooled))
            }
        }
    }
}
