//! A base model with a head: what every task runs.

use std::collections::BTreeSet;

use burn::module::Module;
use burn::tensor::{Device, Tensor};
use eigenmix_moslora::ParameterNames;

use crate::body::{Body, BodyContext, last_rows};
use crate::builder::Builder;
use crate::cache::Cache;
use crate::head::{Head, log_probabilities, select};
use crate::read_rows::ReadRows;
use crate::{Adaptation, Architecture, Batch, Checkpoint, HeadKind, ImageBatch, ModelError, Train};

/// A body and the head of a task.
#[derive(Module, Debug)]
pub struct Network {
    body: Body,
    head: Head,
}

/// The batch's data that layers need.
pub(crate) struct Context {
    body: BodyContext,
    /// Which rows of the last layer's output are needed; `None`: all of them.
    read: Option<ReadRows>,
}

/// Options of loading a model.
pub struct LoadOptions<'a> {
    pub head: HeadKind,
    pub adaptation: &'a Adaptation,
    pub train: Train,
    /// Dropout probability inside the base model during training.
    pub dropout: f64,
    /// The seed of random values: of a new head, or of everything if there are no weights.
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
    /// Tensors of the adaptation that the model does not read, such as those of another head.
    pub unplaced: Vec<String>,
}

impl Network {
    /// Builds the model of `checkpoint` on `device` with the adaptation on top.
    ///
    /// # Errors
    /// If a tensor is missing or has another shape than the configuration implies, or the model
    /// cannot have such a head.
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
            placed: BTreeSet::new(),
        };
        let body = Body::build(&mut builder, architecture, options.dropout)?;
        let head = Head::build(&mut builder, architecture, options.head, options.dropout)?;
        let unplaced = options.adaptation.tensors.keys();
        let unplaced = unplaced.filter(|name| !builder.placed.contains(*name));
        Ok(Loaded {
            model: Self { body, head },
            unplaced: unplaced.cloned().collect(),
            names: builder.names,
            initialised: builder.initialised,
        })
    }

    /// The logits of a batch: a row for each example, or with the head of a language model for each
    /// token.
    ///
    /// # Panics
    /// If the batch lacks what the model takes.
    pub fn forward(&self, batch: &Batch, device: &Device) -> Tensor<2> {
        self.logits(self.hidden_states(batch, device))
    }

    /// The output of the last layer in the rows that the head reads: `[rows, d_model]`, a row for
    /// each token of a language model, otherwise one for each example.
    ///
    /// # Panics
    /// As [`Network::forward`].
    pub fn hidden_states(&self, batch: &Batch, device: &Device) -> Tensor<2> {
        let (mut hidden, context) = self.embed(batch, device);
        for layer in 0..self.n_layers() {
            hidden = self.layer(layer, hidden, &context);
        }
        hidden
    }

    /// The logits from what [`Network::hidden_states`] gave.
    ///
    /// - hidden: `[rows, d_model]`
    pub fn logits(&self, hidden: Tensor<2>) -> Tensor<2> {
        self.head.forward(&self.body, self.body.final_norm(hidden))
    }

    /// The mean cross-entropy of a language model's predictions.
    ///
    /// - hidden: `[rows, d_model]`, what [`Network::hidden_states`] gave
    /// - rows: those whose predictions count
    /// - targets: the token that comes after each of them
    /// - smoothing: the share of each target that is spread over the vocabulary, 0 for none
    ///
    /// # Panics
    /// If the model has no head of a language model, or there are no rows.
    pub fn next_token_loss(
        &self,
        hidden: Tensor<2>,
        rows: &[i32],
        targets: &[i32],
        smoothing: f32,
    ) -> Tensor<1> {
        let hidden = self.body.final_norm(select(hidden, rows));
        self.head
            .next_token_loss(&self.body, hidden, targets, smoothing)
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
        log_probabilities(self.logits(select(hidden, rows)), targets)
    }

    /// What a vision-language model makes of images for its decoder:
    /// `[images · tokens per image, d_model]`; `None` of other models.
    pub fn image_features(&self, images: &ImageBatch, device: &Device) -> Option<Tensor<2>> {
        self.body.image_features(images, device)
    }

    /// An empty cache for that many sequences.
    ///
    /// # Panics
    /// If the model has no decoder.
    pub fn cache(&self, sequences: usize) -> Cache {
        Cache::new(self.body.decoder().n_layers(), sequences)
    }

    /// The logits of the last token of each sequence, `[sequences, vocabulary]`; keys and values are
    /// taken from and added to the cache.
    ///
    /// # Panics
    /// If the model has no decoder, or the batch has no texts.
    pub fn next_token(&self, inputs: &Batch, cache: &mut Cache, device: &Device) -> Tensor<2> {
        let decoder = self.body.decoder();
        let batch = inputs.texts.as_ref().expect("tokens to continue");
        // Where every sequence has one new token, these are all rows.
        let is_one_each = batch.tokens() == batch.sequences();
        let read = (!is_one_each).then(|| ReadRows::new(last_rows(batch)));
        let (mut hidden, context) = self.body.decoder_input(inputs, cache, device);
        if let (Some(read), 0) = (&read, decoder.n_layers()) {
            hidden = read.select(hidden);
        }
        for layer in 0..decoder.n_layers() {
            let is_last = layer + 1 == decoder.n_layers();
            let read = read.as_ref().filter(|_| is_last);
            hidden = decoder.layer(layer, hidden, &context, read, Some(cache));
        }
        cache.count(batch.offsets());
        self.logits(hidden)
    }

    pub(crate) fn n_layers(&self) -> usize {
        self.body.n_layers()
    }

    pub(crate) fn embed(&self, batch: &Batch, device: &Device) -> (Tensor<2>, Context) {
        let (hidden, body) = self.body.embed(batch, device);
        let read = self.head.rows_read(&self.body, batch).map(ReadRows::new);
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
        self.body.layer(layer, hidden, &context.body, read)
    }
}
