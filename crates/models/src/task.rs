//! What a model is asked to give.

/// The head that goes on a model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Task {
    /// A score for each label, of a text or an image; one label is a number to predict.
    Classification { labels: usize },
    /// A score for each token that may come next, at every token.
    LanguageModel,
    /// CLIP's projected features of an image.
    ImageFeatures,
}

impl Task {
    /// In words.
    pub fn name(self) -> &'static str {
        match self {
            Self::Classification { .. } => "classification",
            Self::LanguageModel => "causal language modelling",
            Self::ImageFeatures => "image features",
        }
    }
}
