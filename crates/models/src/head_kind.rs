//! The kinds of heads.

/// The head of a model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HeadKind {
    /// A score for each label, of a text or an image; one label is a value to predict.
    Classification { labels: usize },
    /// A score for each token that may come next, at every token.
    LanguageModel,
    /// A score for each label of an image, which a text about it is compared with (CLIP).
    ZeroShot { labels: usize },
    /// CLIP's projected features of an image.
    ImageFeatures,
}

impl HeadKind {
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

    /// Whether it gives a row for every token of a text, not one for each text.
    pub fn is_per_token(self) -> bool {
        self == Self::LanguageModel
    }

    /// Whether it is trained with an adapter, because no base model has it.
    pub fn is_of_task(self) -> bool {
        matches!(self, Self::Classification { .. })
    }
}
