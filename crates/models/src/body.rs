//! The layers below the head: the one place that distinguishes architectures while a model runs.

use burn::module::Module;
use burn::tensor::{Device, Tensor};
use eigenmix_kernels::AttentionShape;

use crate::builder::Builder;
use crate::cache::Cache;
use crate::decoder::{Decoder, DecoderContext};
use crate::encoder::Encoder;
use crate::read_rows::ReadRows;
use crate::vision::Vision;
use crate::vision_language::{VisionLanguage, VisionLanguageContext};
use crate::{Architecture, Batch, ImageBatch, ModelError, TokenBatch};

/// Embeddings and layers: a batch in, hidden states out.
#[derive(Module, Debug)]
#[expect(clippy::large_enum_variant, reason = "there is one in a model")]
pub(crate) enum Body {
    Encoder(Encoder),
    Decoder(Decoder),
    Vision(Vision),
    VisionLanguage(VisionLanguage),
}

/// The batch's data that layers need.
pub(crate) enum BodyContext {
    Attention(AttentionShape),
    Decoder(DecoderContext),
    VisionLanguage(VisionLanguageContext),
}

impl Body {
    /// - dropout: the probability of dropping an activation while training
    pub fn build(
        builder: &mut Builder,
        architecture: &Architecture,
        dropout: f64,
    ) -> Result<Self, ModelError> {
        match architecture {
            Architecture::Encoder(config) => {
                Encoder::build(builder, config, dropout).map(Self::Encoder)
            }
            Architecture::Decoder(config) => {
                Decoder::build(builder, config, dropout).map(Self::Decoder)
            }
            Architecture::Vision(config) => {
                Vision::build(builder, config, config.n_layers, dropout).map(Self::Vision)
            }
            Architecture::VisionLanguage(config) => {
                VisionLanguage::build(builder, config, dropout).map(Self::VisionLanguage)
            }
        }
    }

    pub fn n_layers(&self) -> usize {
        match self {
            Self::Encoder(encoder) => encoder.n_layers(),
            Self::Decoder(decoder) => decoder.n_layers(),
            Self::Vision(vision) => vision.n_layers(),
            Self::VisionLanguage(model) => model.n_layers(),
        }
    }

    /// The hidden states that the layers start from: `[rows, d_model]`.
    ///
    /// # Panics
    /// If the batch lacks what the model takes.
    pub fn embed(&self, batch: &Batch, device: &Device) -> (Tensor<2>, BodyContext) {
        match self {
            Self::Encoder(encoder) => {
                let (hidden, shape) = encoder.embed(texts(batch));
                (hidden, BodyContext::Attention(shape))
            }
            Self::Decoder(decoder) => {
                let texts = texts(batch);
                let context = decoder.context(texts, None, device);
                (decoder.embed(texts), BodyContext::Decoder(context))
            }
            Self::Vision(vision) => {
                let (hidden, shape) = vision.embed(images(batch), device);
                (hidden, BodyContext::Attention(shape))
            }
            Self::VisionLanguage(model) => {
                let (hidden, context) = model.embed(batch, device);
                (hidden, BodyContext::VisionLanguage(context))
            }
        }
    }

    /// - hidden: `[rows, d_model]`
    /// - read: which rows of the output are needed; `None`: all of them
    pub fn layer(
        &self,
        layer: usize,
        hidden: Tensor<2>,
        context: &BodyContext,
        read: Option<&ReadRows>,
    ) -> Tensor<2> {
        match (self, context) {
            (Self::Encoder(encoder), BodyContext::Attention(shape)) => {
                encoder.layer(layer, hidden, shape, read)
            }
            (Self::Decoder(decoder), BodyContext::Decoder(context)) => {
                decoder.layer(layer, hidden, context, read, None)
            }
            (Self::Vision(vision), BodyContext::Attention(shape)) => {
                vision.layer(layer, hidden, shape, read)
            }
            (Self::VisionLanguage(model), BodyContext::VisionLanguage(context)) => {
                model.layer(layer, hidden, context, read)
            }
            _ => unreachable!("the context belongs to another kind of model"),
        }
    }

    /// The norm after the last layer, row by row, where there is one.
    pub fn final_norm(&self, hidden: Tensor<2>) -> Tensor<2> {
        match self {
            Self::Encoder(_) => hidden,
            Self::Decoder(decoder) => decoder.final_norm(hidden),
            Self::Vision(vision) => vision.final_norm(hidden),
            Self::VisionLanguage(model) => model.decoder.final_norm(hidden),
        }
    }

    /// The first row of each example: the first token's, or the class token's.
    pub fn first_rows(&self, batch: &Batch) -> Vec<i32> {
        match self {
            Self::Encoder(_) | Self::Decoder(_) | Self::VisionLanguage(_) => {
                let texts = texts(batch);
                let starts = &texts.offsets()[..texts.sequences()];
                starts.iter().map(|&row| row as i32).collect()
            }
            Self::Vision(vision) => {
                let rows = vision.rows_per_image();
                (0..images(batch).images())
                    .map(|image| (image * rows) as i32)
                    .collect()
            }
        }
    }

    /// The row of each text's last token.
    pub fn last_rows(&self, batch: &Batch) -> Vec<i32> {
        last_rows(texts(batch))
    }

    /// What continues a sequence.
    ///
    /// # Panics
    /// If the model is not a decoder.
    pub fn decoder(&self) -> &Decoder {
        match self {
            Self::Decoder(decoder) => decoder,
            Self::VisionLanguage(model) => &model.decoder,
            _ => panic!("only decoders continue a sequence"),
        }
    }
}

impl Body {
    /// The vectors that the decoder starts from, and what it needs to know of the batch.
    ///
    /// - cache: of the tokens before the batch's
    ///
    /// # Panics
    /// If there is no decoder, or the batch has no texts.
    pub fn decoder_input(
        &self,
        batch: &Batch,
        cache: &Cache,
        device: &Device,
    ) -> (Tensor<2>, DecoderContext) {
        match self {
            Self::VisionLanguage(model) => model.decoder_input(batch, cache, device),
            _ => {
                let (decoder, texts) = (self.decoder(), texts(batch));
                let context = decoder.context(texts, Some(cache), device);
                (decoder.embed(texts), context)
            }
        }
    }

    /// What a vision-language model makes of images for its decoder:
    /// `[images · tokens per image, d_model]`; `None` of other models.
    pub fn image_features(&self, images: &ImageBatch, device: &Device) -> Option<Tensor<2>> {
        match self {
            Self::VisionLanguage(model) => Some(model.image_features(images, device)),
            _ => None,
        }
    }
}

/// The row of each sequence's last token.
pub(crate) fn last_rows(batch: &TokenBatch) -> Vec<i32> {
    let ends = &batch.offsets()[1..];
    ends.iter().map(|&end| end as i32 - 1).collect()
}

fn texts(batch: &Batch) -> &TokenBatch {
    let texts = batch.texts.as_ref();
    texts.expect("tokens go into text models")
}

fn images(batch: &Batch) -> &ImageBatch {
    let images = batch.images.as_ref();
    images.expect("images go into vision models")
}
