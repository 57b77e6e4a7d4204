//! What a model is asked to give.

/// The head that goes on a model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Task {
    /// A score for each label, of a text or an image; one label is a number to predict.
    Classification { labels: usize },
    /// A score for each token that may come next, at every token.
    LanguageModel,
    /// A score for each label of an image, which a text about it is compared with (CLIP).
    ZeroShot { labels: usize },
    /// CLIP's projected features of an image.
    ImageFeatures,
}

impl Task {
    /// In words.
    pub fn name(self) -> &'static str {
        match self {
            Self::Classification { .. } => "classification",
            Self::LanguageModel => "causal language modelling",
            Self::ZeroShot { .. } => "zero-shot classification",
            Self::ImageFeatures => "image features",
        }
    }

    /// How many labels it scores, if it scores labels.
    pub fn labels(self) -> Option<usize> {
        match self {
            Self::Classification { labels } | Self::ZeroShot { labels } => Some(labels),
            Self::LanguageModel | Self::ImageFeatures => None,
        }
    }
}
