//! A base model with a head: what every task runs.

use burn::module::Module;
use burn::nn::{Dropout, DropoutConfig};
use burn::tensor::{Device, Int, Tensor, TensorData, activation};
use eigenmix_kernels::{AttentionShape, Weight};
use eigenmix_moslora::{AdaptedLinear, ParameterNames};

use crate::builder::Builder;
use crate::cache::Cache;
use crate::decoder::{Decoder, DecoderContext};
use crate::encoder::{Encoder, Family};
use crate::read_rows::ReadRows;
use crate::task::Task;
use crate::vision::Vision;
use crate::zero_shot::ZeroShotHead;
use crate::{Adaptation, Architecture, Checkpoint, ImageBatch, ModelError, TokenBatch, Train};

/// A transformer and the head of a task.
#[derive(Module, Debug)]
pub struct Network {
    body: Body,
    head: Head,
    dropout: Dropout,
}

#[derive(Module, Debug)]
enum Body {
    Encoder(Encoder),
    Decoder(Decoder),
    Vision(Vision),
}

#[derive(Module, Debug)]
enum Head {
    /// On the first token: pooler, tanh, classifier.
    Bert(DenseHead),
    /// On the first token: classifier.dense, tanh, classifier.out_proj.
    Roberta(DenseHead),
    /// On the first token: pre_classifier, ReLU, classifier.
    DistilBert(DenseHead),
    /// On the first row: the class token.
    First(AdaptedLinear),
    /// On the first row, by what texts say of the labels.
    ZeroShot(ZeroShotHead),
    /// On the last token.
    Last(AdaptedLinear),
    /// On every token: an output layer of its own, or the embedding table.
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

/// What goes into a network.
#[derive(Clone, Debug)]
pub enum Batch {
    Tokens(TokenBatch),
    Images(ImageBatch),
}

/// What the layers need to know of a batch.
pub(crate) struct Context {
    body: BodyContext,
    /// What of the last layer's output is wanted; `None`: all of it.
    read: Option<ReadRows>,
}

#[expect(clippy::large_enum_variant, reason = "there is one a batch")]
enum BodyContext {
    Attention(AttentionShape),
    Decoder(DecoderContext),
}

/// How a model is put together.
pub struct LoadOptions<'a> {
    pub task: Task,
    pub adaptation: &'a Adaptation,
    pub train: Train,
    /// The probability of dropping an activation of the base model while training.
    pub dropout: f64,
    /// For what is drawn at random: a new head, or everything where there are no weights.
    pub seed: u64,
}

/// A loaded model and what is trained in it.
pub struct Loaded {
    pub model: Network,
    /// The names of everything that is trained: updates' factors as `MODULE/FACTOR`, tensors of
    /// the model under their own names.
    pub names: ParameterNames,
    /// Tensors that were drawn at random because nothing provided them.
    pub initialised: Vec<String>,
}

impl Batch {
    /// How many sequences or images there are.
    pub fn examples(&self) -> usize {
        match self {
            Self::Tokens(tokens) => tokens.sequences(),
            Self::Images(images) => images.images(),
        }
    }

    /// How many tokens there are; an image counts as one.
    pub fn tokens(&self) -> usize {
        match self {
            Self::Tokens(tokens) => tokens.tokens(),
            Self::Images(images) => images.images(),
        }
    }
}

impl Network {
    /// Builds the model of `checkpoint` on `device` with the adaptation on top.
    ///
    /// # Errors
    /// If a tensor is missing or has another shape than the configuration implies, or the model is
    /// not for the task.
    pub fn load(
        checkpoint: &Checkpoint,
        architecture: &Architecture,
        options: &LoadOptions,
        device: &Device,
    ) -> Result<Loaded, ModelError> {
        let mut builder = Builder {
            checkpoint,
            adaptation: options.adaptation,
            prefix: architecture.prefix(),
            train: options.train,
            seed: options.seed,
            device,
            names: ParameterNames::default(),
            initialised: Vec::new(),
        };
        let body = match architecture {
            Architecture::Encoder(config) => {
                Body::Encoder(Encoder::build(&mut builder, config, options.dropout)?)
            }
            Architecture::Decoder(config) => {
                Body::Decoder(Decoder::build(&mut builder, config, options.dropout)?)
            }
            Architecture::Vision(config) => {
                Body::Vision(Vision::build(&mut builder, config, options.dropout)?)
            }
        };
        let model = Self {
            head: Head::build(&mut builder, architecture, options.task)?,
            body,
            dropout: DropoutConfig::new(options.dropout).init(),
        };
        Ok(Loaded {
            model,
            names: builder.names,
            initialised: builder.initialised,
        })
    }

    /// The logits of a batch: a row for each sequence or image, or with the head of a language model
    /// for each token.
    ///
    /// # Panics
    /// If the batch is not of the kind that the model takes.
    pub fn forward(&self, batch: &Batch, device: &Device) -> Tensor<2> {
        self.logits(self.trunk(batch, device))
    }

    /// The vectors after the last layer that the head reads: `[rows, d_model]`, a row for each token of a
    /// language model, otherwise one for each sequence or image.
    ///
    /// # Panics
    /// As [`Network::forward`].
    pub fn trunk(&self, batch: &Batch, device: &Device) -> Tensor<2> {
        let (mut hidden, context) = self.embed(batch, device);
        for layer in 0..self.n_layers() {
            hidden = self.layer(layer, hidden, &context);
        }
        hidden
    }

    /// The logits from what [`Network::trunk`] gave.
    ///
    /// - hidden: `[rows, d_model]`
    pub fn logits(&self, hidden: Tensor<2>) -> Tensor<2> {
        self.head(self.finish(hidden))
    }

    /// The mean cross-entropy of a language model's predictions.
    ///
    /// - hidden: `[rows, d_model]`, what [`Network::trunk`] gave
    /// - rows: those whose predictions count
    /// - targets: the token that comes after each of them
    ///
    /// # Panics
    /// If the model has no head of a language model, or there is no row.
    pub fn next_token_loss(&self, hidden: Tensor<2>, rows: &[i32], targets: &[i32]) -> Tensor<1> {
        let Head::Tokens(head) = &self.head else {
            panic!("next tokens are predicted by language models only");
        };
        let hidden = self.finish(select(hidden, rows));
        let weight = match &head.output {
            Some(output) => output.plain_weight(),
            None => Some(self.embedding_table()),
        };
        match weight {
            Some(weight) => {
                eigenmix_kernels::linear_cross_entropy(hidden, weight, targets, head.softcap)
            }
            None => -log_probabilities(self.head(hidden), targets).mean(),
        }
    }

    /// The logarithm of the probability that a language model gives to each target: `[rows]`.
    ///
    /// - hidden, rows, targets: as for [`Network::next_token_loss`]
    pub fn target_log_probabilities(
        &self,
        hidden: Tensor<2>,
        rows: &[i32],
        targets: &[i32],
    ) -> Tensor<1> {
        log_probabilities(self.head(self.finish(select(hidden, rows))), targets)
    }

    /// An empty cache for that many sequences.
    pub fn cache(&self, sequences: usize) -> Cache {
        Cache::new(self.n_layers(), sequences)
    }

    /// The logits of the last token of each sequence, `[sequences, vocabulary]`; keys and values are
    /// taken from and added to the cache.
    ///
    /// # Panics
    /// If the model is no decoder.
    pub fn next_token(&self, batch: &TokenBatch, cache: &mut Cache, device: &Device) -> Tensor<2> {
        let Body::Decoder(decoder) = &self.body else {
            panic!("only decoders continue a sequence");
        };
        let (mut hidden, context) = decoder.embed(batch, Some(cache), device);
        for layer in 0..decoder.n_layers() {
            hidden = decoder.layer(layer, hidden, &context, None, Some(cache));
        }
        cache.count(batch.offsets());
        self.head(self.finish(select(hidden, &last_rows(batch))))
    }

    pub(crate) fn n_layers(&self) -> usize {
        match &self.body {
            Body::Encoder(encoder) => encoder.n_layers(),
            Body::Decoder(decoder) => decoder.n_layers(),
            Body::Vision(vision) => vision.n_layers(),
        }
    }

    pub(crate) fn embed(&self, batch: &Batch, device: &Device) -> (Tensor<2>, Context) {
        let (hidden, body) = match (&self.body, batch) {
            (Body::Encoder(encoder), Batch::Tokens(batch)) => {
                let (hidden, shape) = encoder.embed(batch);
                (hidden, BodyContext::Attention(shape))
            }
            (Body::Decoder(decoder), Batch::Tokens(batch)) => {
                let (hidden, context) = decoder.embed(batch, None, device);
                (hidden, BodyContext::Decoder(context))
            }
            (Body::Vision(vision), Batch::Images(batch)) => {
                let (hidden, shape) = vision.embed(batch, device);
                (hidden, BodyContext::Attention(shape))
            }
            _ => panic!("tokens go into text models, images into vision models"),
        };
        let read = self.rows_read(batch).map(ReadRows::new);
        let hidden = match &read {
            Some(read) if self.n_layers() == 0 => read.select(hidden),
            _ => hidden,
        };
        (hidden, Context { body, read })
    }

    /// - hidden: `[rows, d_model]`
    /// - output: as many rows; after the last layer those that the head reads
    pub(crate) fn layer(&self, layer: usize, hidden: Tensor<2>, context: &Context) -> Tensor<2> {
        let is_last = layer + 1 == self.n_layers();
        let read = context.read.as_ref().filter(|_| is_last);
        match (&self.body, &context.body) {
            (Body::Encoder(encoder), BodyContext::Attention(shape)) => {
                encoder.layer(layer, hidden, shape, read)
            }
            (Body::Decoder(decoder), BodyContext::Decoder(context)) => {
                decoder.layer(layer, hidden, context, read, None)
            }
            (Body::Vision(vision), BodyContext::Attention(shape)) => {
                vision.layer(layer, hidden, shape, read)
            }
            _ => unreachable!("the context was made by this body"),
        }
    }

    /// What comes between the last layer and the head, row by row.
    fn finish(&self, hidden: Tensor<2>) -> Tensor<2> {
        match &self.body {
            Body::Encoder(_) => hidden,
            Body::Decoder(decoder) => decoder.finish(hidden),
            Body::Vision(vision) => vision.finish(hidden),
        }
    }

    /// The rows that the head reads; `None`: all of them.
    fn rows_read(&self, batch: &Batch) -> Option<Vec<i32>> {
        match (&self.head, batch) {
            (Head::Tokens(_), _) => None,
            (Head::Last(_), Batch::Tokens(batch)) => Some(last_rows(batch)),
            (_, Batch::Tokens(batch)) => {
                let starts = &batch.offsets()[..batch.sequences()];
                Some(starts.iter().map(|&row| row as i32).collect())
            }
            (_, Batch::Images(batch)) => {
                let Body::Vision(vision) = &self.body else {
                    unreachable!("images went into a vision model");
                };
                let rows = vision.rows_per_image();
                Some(
                    (0..batch.images())
                        .map(|image| (image * rows) as i32)
                        .collect(),
                )
            }
        }
    }

    /// - hidden: `[rows, d_model]`
    /// - output: `[rows, outputs]`
    fn head(&self, hidden: Tensor<2>) -> Tensor<2> {
        let dropout = |hidden: Tensor<2>| self.dropout.forward(hidden);
        match &self.head {
            Head::Bert(head) => {
                let pooled = activation::tanh(head.dense.forward(hidden));
                head.output.forward(dropout(pooled))
            }
            Head::Roberta(head) => {
                let pooled = activation::tanh(head.dense.forward(dropout(hidden)));
                head.output.forward(dropout(pooled))
            }
            Head::DistilBert(head) => {
                let pooled = activation::relu(head.dense.forward(hidden));
                head.output.forward(dropout(pooled))
            }
            Head::First(output) | Head::Last(output) => output.forward(hidden),
            Head::ZeroShot(head) => head.forward(hidden),
            Head::Tokens(head) => {
                let logits = match &head.output {
                    Some(output) => output.forward(hidden),
                    None => self.embedding_table().product(hidden),
                };
                match head.softcap {
                    Some(cap) => (logits / cap).tanh() * cap,
                    None => logits,
                }
            }
        }
    }

    fn embedding_table(&self) -> &Weight {
        match &self.body {
            Body::Decoder(decoder) => &decoder.token_embeddings,
            _ => unreachable!("only decoders have the head of a language model"),
        }
    }
}

impl Head {
    fn build(
        builder: &mut Builder,
        architecture: &Architecture,
        task: Task,
    ) -> Result<Self, ModelError> {
        let layers = architecture.head_layers(task)?;
        if let Architecture::Encoder(config) = architecture {
            let [dense, output] = &layers[..] else {
                unreachable!("an encoder's head has two layers");
            };
            // BERT's pooler is part of the pretrained model; where a checkpoint lacks it, it is as
            // new as the classifier and trained with it.
            let name = format!("{}.weight", dense.path);
            let pooler = !dense.head
                && (builder.has(&name) || builder.adaptation.tensors.contains_key(&name));
            let dense = match pooler && builder.train != Train::Everything {
                true => builder.linear(dense)?,
                false => builder.head(dense)?,
            };
            let output = builder.head(output)?;
            let head = DenseHead { dense, output };
            return Ok(match config.family {
                Family::Bert => Self::Bert(head),
                Family::Roberta => Self::Roberta(head),
                Family::DistilBert => Self::DistilBert(head),
            });
        }
        Ok(match (architecture, task) {
            (Architecture::Decoder(config), Task::LanguageModel) => {
                // The output layer of a language model is part of the pretrained model.
                let output = layers
                    .first()
                    .map(|layer| builder.linear(layer))
                    .transpose()?;
                let softcap = config.output_softcap;
                Self::Tokens(TokenHead { output, softcap })
            }
            (Architecture::Decoder(_), _) => Self::Last(builder.head(&layers[0])?),
            (_, Task::ImageFeatures) => Self::First(builder.linear(&layers[0])?),
            (_, Task::ZeroShot { labels }) => {
                Self::ZeroShot(ZeroShotHead::build(builder, &layers[0], labels)?)
            }
            _ => Self::First(builder.head(&layers[0])?),
        })
    }
}

/// log softmax(logits)[target], row by row.
///
/// - logits: `[rows, outputs]`
/// - output: `[rows]`
fn log_probabilities(logits: Tensor<2>, targets: &[i32]) -> Tensor<1> {
    let device = logits.device();
    let rows = targets.len();
    let targets = TensorData::new(targets.to_vec(), [rows, 1]);
    activation::log_softmax(logits, 1)
        .gather(1, Tensor::<2, Int>::from_data(targets, &device))
        .reshape([rows])
}

/// The row of each sequence's last token.
fn last_rows(batch: &TokenBatch) -> Vec<i32> {
    let ends = &batch.offsets()[1..];
    ends.iter().map(|&end| end as i32 - 1).collect()
}

fn select(hidden: Tensor<2>, rows: &[i32]) -> Tensor<2> {
    ReadRows::new(rows.to_vec()).select(hidden)
}
