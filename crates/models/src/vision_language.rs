//! A vision-language model: the features of a tower, through a connector, in the places of the image
//! tokens of a decoder's input.

use burn::module::Module;
use burn::tensor::{Device, Int, Tensor, TensorData};
use eigenmix_kernels::AttentionShape;
use eigenmix_moslora::AdaptedLinear;

use crate::builder::{Builder, Train};
use crate::cache::Cache;
use crate::connector::Connector;
use crate::decoder::{Decoder, DecoderContext};
use crate::read_rows::ReadRows;
use crate::vision::Vision;
use crate::vision_language_config::VisionLanguageConfig;
use crate::{Batch, ImageBatch, LinearLayer, ModelError, TokenBatch};

/// Tower, connector and decoder.
#[derive(Module, Debug)]
pub(crate) struct VisionLanguage {
    tower: Vision,
    /// Layers above the tower's that an adapter has something for: they are saved with it.
    pooling: Vec<AdaptedLinear>,
    connector: Connector,
    pub decoder: Decoder,
    image_token: i32,
    tower_depth: usize,
    takes_class_token: bool,
}

/// What the layers need to know of a batch.
pub(crate) struct VisionLanguageContext {
    decoder: DecoderContext,
    /// Of a batch with images.
    images: Option<ImageContext>,
}

/// What becomes of the images of a batch on the way from the tower to the decoder.
struct ImageContext {
    shape: AttentionShape,
    /// How many there are.
    images: usize,
    texts: TokenBatch,
}

impl VisionLanguage {
    /// Layers of the tower above the features are built only where they are trained or adapted, so that
    /// they go into what is saved.
    pub fn build(
        builder: &mut Builder,
        config: &VisionLanguageConfig,
        dropout: f64,
    ) -> Result<Self, ModelError> {
        let is_kept = |layer: &usize| {
            let block = format!("{}.", config.tower.block_path(*layer));
            let mut adapted = builder.adaptation.updates.keys();
            builder.train == Train::Everything || adapted.any(|path| path.starts_with(&block))
        };
        let above = config.tower_depth..config.tower.n_layers;
        let built = above.rev().find(is_kept);
        let built = built.map_or(config.tower_depth, |highest| highest + 1);
        let pooling = config.tower.pooling_layers().into_iter();
        let updates = &builder.adaptation.updates;
        let pooling: Vec<LinearLayer> = pooling
            .filter(|layer| updates.contains_key(&layer.path))
            .collect();
        let pooling = pooling.iter().map(|layer| builder.linear(layer));
        Ok(Self {
            pooling: pooling.collect::<Result<_, _>>()?,
            tower: Vision::build(builder, &config.tower, built, dropout)?,
            connector: Connector::build(builder, &config.connector)?,
            decoder: Decoder::build(builder, &config.decoder, dropout)?,
            image_token: config.image_token as i32,
            tower_depth: config.tower_depth,
            takes_class_token: config.takes_class_token,
        })
    }

    /// Those of the tower that are computed, then those of the decoder.
    pub fn n_layers(&self) -> usize {
        self.tower_depth + self.decoder.n_layers()
    }

    /// The vectors that the first layer starts from: of the images' patches, or, where there are no
    /// images, of the tokens, which pass the layers of the tower as they are.
    pub fn embed(&self, batch: &Batch, device: &Device) -> (Tensor<2>, VisionLanguageContext) {
        let texts = batch.texts.as_ref();
        let texts = texts.expect("a vision-language model reads texts");
        let mut context = VisionLanguageContext {
            decoder: self.decoder.context(texts, None, device),
            images: None,
        };
        let Some(images) = &batch.images else {
            return (self.decoder.embed(texts), context);
        };
        let (hidden, shape) = self.tower.embed(images, device);
        context.images = Some(ImageContext {
            shape,
            images: images.images(),
            texts: texts.clone(),
        });
        (hidden, context)
    }

    /// - hidden: `[rows, width]`, of patches below the first layer of the decoder, then of tokens
    /// - read: which rows of the output are needed; `None`: all of them
    pub fn layer(
        &self,
        layer: usize,
        mut hidden: Tensor<2>,
        context: &VisionLanguageContext,
        read: Option<&ReadRows>,
    ) -> Tensor<2> {
        let Some(of_decoder) = layer.checked_sub(self.tower_depth) else {
            return match &context.images {
                Some(images) => self.tower.layer(layer, hidden, &images.shape, None),
                None => hidden,
            };
        };
        if let (0, Some(images)) = (of_decoder, &context.images) {
            let features = self.connected(hidden, images.images);
            hidden = self.placed(&images.texts, features);
        }
        self.decoder
            .layer(of_decoder, hidden, &context.decoder, read, None)
    }

    /// The vectors that the decoder starts from, with those of images in their places.
    pub fn decoder_input(
        &self,
        batch: &Batch,
        cache: &Cache,
        device: &Device,
    ) -> (Tensor<2>, DecoderContext) {
        let texts = batch.texts.as_ref();
        let texts = texts.expect("a vision-language model reads texts");
        let hidden = match &batch.images {
            Some(images) => self.placed(texts, self.image_features(images, device)),
            None => self.decoder.embed(texts),
        };
        (hidden, self.decoder.context(texts, Some(cache), device))
    }

    /// What the connector makes of images: `[images · tokens per image, d_model]`.
    pub fn image_features(&self, images: &ImageBatch, device: &Device) -> Tensor<2> {
        let (mut hidden, shape) = self.tower.embed(images, device);
        for layer in 0..self.tower_depth {
            hidden = self.tower.layer(layer, hidden, &shape, None);
        }
        self.connected(hidden, images.images())
    }

    /// - hidden: `[images · rows per image, d_tower]`
    fn connected(&self, hidden: Tensor<2>, images: usize) -> Tensor<2> {
        let [rows, width] = hidden.dims();
        let per_image = rows / images;
        let features = match self.takes_class_token {
            true => hidden,
            // The first row of each image is the class token's, if there is one; SigLIP's is left out too.
            false => hidden
                .reshape([images, per_image, width])
                .slice([0..images, 1..per_image, 0..width])
                .reshape([images * (per_image - 1), width]),
        };
        self.connector.forward(features)
    }

    /// The embeddings of tokens, with features in the places of the image tokens, in their order.
    ///
    /// - features: as many rows as there are image tokens
    ///
    /// # Panics
    /// If there are more or fewer: those of one text would stand in the places of another.
    fn placed(&self, texts: &TokenBatch, features: Tensor<2>) -> Tensor<2> {
        let (device, rows) = (features.device(), texts.tokens());
        let of_images = texts.ids().iter().filter(|&&id| id == self.image_token);
        assert_eq!(
            of_images.count(),
            features.dims()[0],
            "image tokens and features"
        );
        let mut next = rows as i32;
        let sources = texts.ids().iter().zip(0..).map(|(&id, row)| {
            let is_image = id == self.image_token;
            let source = if is_image { next } else { row };
            next += i32::from(is_image);
            source
        });
        let sources = TensorData::new(sources.collect::<Vec<i32>>(), [rows]);
        let all = Tensor::cat(vec![self.decoder.embed(texts), features], 0);
        all.select(0, Tensor::<1, Int>::from_data(sources, &device))
    }
}
