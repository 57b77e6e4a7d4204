//! The description of an architecture.

use crate::clip_text::ClipTextConfig;
use crate::head::HeadForm;
use crate::{HeadKind, LayerStack, LinearLayer};

/// How images stand in the texts of a vision-language model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ImageTokens {
    /// The token in whose places the features of images stand.
    pub token: u32,
    /// How many of them an image takes.
    pub per_image: usize,
}

/// What can be known of a model from its configuration. Each architecture implements it in one file,
/// and everything that is not about one architecture asks here.
pub trait ModelConfig {
    /// The kind of model.
    fn kind(&self) -> &'static str;

    /// The name of the model inside its task wrapper.
    fn prefix(&self) -> &'static str;

    /// CLIP's text tower, where the checkpoint is a whole CLIP.
    fn clip_text(&self) -> Option<&ClipTextConfig> {
        None
    }

    /// Whether its input is text, and not only that of its text tower.
    fn takes_texts(&self) -> bool {
        self.vocab_size().is_some()
    }

    /// How many tokens it knows; `None` where it has no part that reads texts.
    fn vocab_size(&self) -> Option<usize> {
        None
    }

    /// The path of the table of the tokens that it takes.
    fn token_table(&self) -> Option<String> {
        None
    }

    /// Whether a language model's output layer is that table.
    fn ties_output(&self) -> bool {
        false
    }

    /// The longest sequence it takes, special tokens included; `None` where it has no part that reads
    /// texts.
    fn max_length(&self) -> Option<usize> {
        None
    }

    /// How many segments it distinguishes; 0 if it has no segments.
    fn segments(&self) -> usize {
        0
    }

    /// Whether its heads read the first token of a text, regardless of its mask.
    fn reads_first_token(&self) -> bool {
        false
    }

    /// [channels, size] of the square images it takes; `None` where it takes none.
    fn image_shape(&self) -> Option<[usize; 2]> {
        None
    }

    /// How images stand in its texts, where they do.
    fn image_tokens(&self) -> Option<ImageTokens> {
        None
    }

    /// Whether what a module gives goes into the outputs.
    fn is_computed(&self, _path: &str) -> bool {
        true
    }

    /// How many rows an example has at most: tokens of a text, or patches of an image.
    ///
    /// - max_length: of a text, in tokens
    fn rows_per_example(&self, max_length: usize) -> usize {
        max_length
    }

    /// The hidden size, and the intermediate size of the feed-forward layers.
    fn widths(&self) -> [usize; 2];

    /// How many transformer layers it has.
    fn n_layers(&self) -> usize;

    /// How many activations a layer keeps per row for the backward pass: [`LayerStack::activations`], and
    /// [`LayerStack::passed`].
    fn activations_per_row(&self) -> [usize; 2];

    /// Its transformer layers, first to last; those of a tower before those of a decoder.
    ///
    /// - max_length: of a text, in tokens
    fn stacks(&self, max_length: usize) -> Vec<LayerStack> {
        let [activations, passed] = self.activations_per_row();
        vec![LayerStack {
            prefix: "",
            n_layers: self.n_layers(),
            rows_per_example: self.rows_per_example(max_length),
            d_model: self.widths()[0],
            activations,
            passed,
        }]
    }

    /// The modules that PEFT's LoRA targets by default: queries and values.
    fn default_targets(&self) -> &'static [&'static str];

    /// Every linear layer below the head, first to last.
    fn layers(&self) -> Vec<LinearLayer>;

    /// How many parameters it has, those of the head excluded.
    fn parameters(&self) -> usize;

    /// The head that a checkpoint was saved with.
    ///
    /// - saved_as: the class that wrote it, from `architectures` of its `config.json`
    /// - classifier: the classification head that is in it, if one is
    fn own_head(&self, saved_as: &str, classifier: Option<HeadKind>) -> Option<HeadKind>;

    /// The head that such models are mostly used with.
    ///
    /// - labels: of a classification
    fn usual_head(&self, labels: usize) -> HeadKind;

    /// The linear layers of a head, the one that gives the outputs last; `None` if the model cannot
    /// have such a head.
    fn head_layers(&self, kind: HeadKind) -> Option<Vec<LinearLayer>>;

    /// The modules of a head, as `modules_to_save` names them.
    fn head_modules(&self, kind: HeadKind) -> Vec<&'static str>;

    /// How a head computes its outputs.
    fn head_form(&self, kind: HeadKind) -> HeadForm;

    /// The tensor whose first dimension is a classifier's number of outputs.
    fn output_weight(&self) -> &'static str;

    /// Whether the model can have a head of this kind.
    fn supports(&self, kind: HeadKind) -> bool {
        self.head_layers(kind).is_some()
    }
}
