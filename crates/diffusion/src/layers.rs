//! The layers of a part: where each is described by path and shape, and the kinds that all parts
//! share.

use std::collections::BTreeMap;

use burn::module::{Module, Param};
use burn::tensor::{Device, Tensor};
use eigenmix_kernels::{ConvolutionShape, GroupNormShape, group_norm};
use eigenmix_models::{Adaptation, Builder, Checkpoint, Description, LinearLayer, ModelError};
use eigenmix_moslora::{AdaptedConvolution, AdaptedLinear, ParameterNames};

use crate::pixels::Pixels;

/// The linear layers and convolutions of a part, by path.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Layers {
    layers: BTreeMap<String, Layer>,
}

#[derive(Clone, Debug, PartialEq)]
struct Layer {
    layer: LinearLayer,
    /// Height and width of a convolution's kernel.
    kernel: Option<[usize; 2]>,
}

impl Layers {
    /// A linear layer `[d_out, d_in]` with a bias.
    pub fn linear(&mut self, path: String, shape: [usize; 2]) {
        self.add(LinearLayer::new(path, shape), None);
    }

    /// A linear layer `[d_out, d_in]` without a bias.
    pub fn linear_without_bias(&mut self, path: String, shape: [usize; 2]) {
        let layer = LinearLayer {
            bias: false,
            ..LinearLayer::new(path, shape)
        };
        self.add(layer, None);
    }

    /// A convolution `[c_out, c_in]` with a bias and a square kernel.
    pub fn convolution(&mut self, path: String, [c_out, c_in]: [usize; 2], kernel: usize) {
        let layer = LinearLayer::new(path, [c_out, c_in * kernel * kernel]);
        self.add(layer, Some([kernel; 2]));
    }

    fn add(&mut self, layer: LinearLayer, kernel: Option<[usize; 2]>) {
        let path = layer.path.clone();
        self.layers.insert(path, Layer { layer, kernel });
    }

    pub fn has(&self, path: &str) -> bool {
        self.layers.contains_key(path)
    }

    /// Height and width of the kernels of convolutions, by path.
    pub fn kernels(&self) -> BTreeMap<String, [usize; 2]> {
        let kernel = |(path, layer): (&String, &Layer)| Some((path.clone(), layer.kernel?));
        self.layers.iter().filter_map(kernel).collect()
    }

    /// For matching adapters. Of the parameters only those of these layers are counted.
    pub fn description(&self) -> Description {
        let layers: Vec<_> = self
            .layers
            .values()
            .map(|layer| layer.layer.clone())
            .collect();
        Description {
            prefix: "",
            parameters: layers.iter().map(LinearLayer::parameters).sum(),
            layers,
            head_tensors: Vec::new(),
            head_modules: Vec::new(),
        }
    }
}

/// Builds the layers of a part from its checkpoint, with an adaptation on top.
pub(crate) struct Parts<'a> {
    layers: &'a Layers,
    builder: Builder<'a>,
}

impl<'a> Parts<'a> {
    pub fn new(
        layers: &'a Layers,
        checkpoint: &'a Checkpoint,
        adaptation: &'a Adaptation,
        device: &'a Device,
    ) -> Self {
        let builder = Builder::frozen(checkpoint, adaptation, "", device);
        Self { layers, builder }
    }

    /// The names of what is trained, and those of the adapter's whole tensors that found no place.
    pub fn finish(self) -> (ParameterNames, Vec<String>) {
        self.builder.finish()
    }

    pub fn linear(&mut self, path: &str) -> Result<AdaptedLinear, ModelError> {
        self.builder.linear(&self.layers.layers[path].layer)
    }

    pub fn convolution(&mut self, path: &str) -> Result<AdaptedConvolution, ModelError> {
        let Layer { layer, kernel } = &self.layers.layers[path];
        self.builder.convolution(layer, kernel.unwrap_or([1, 1]))
    }

    /// A convolution of a path that may not be there.
    pub fn optional_convolution(
        &mut self,
        path: &str,
    ) -> Result<Option<AdaptedConvolution>, ModelError> {
        match self.layers.has(path) {
            true => self.convolution(path).map(Some),
            false => Ok(None),
        }
    }

    /// A layer of single pixels, which is stored as a linear layer or as a convolution.
    pub fn projection(&mut self, path: &str) -> Result<Projection, ModelError> {
        Ok(match self.layers.layers[path].kernel {
            Some(_) => Projection::Convolution(self.convolution(path)?),
            None => Projection::Linear(self.linear(path)?),
        })
    }

    /// A norm over the inputs of a layer.
    ///
    /// - of: the layer that it is in front of
    pub fn group_norm(
        &mut self,
        path: &str,
        of: &str,
        groups: usize,
        epsilon: f64,
    ) -> Result<GroupNorm, ModelError> {
        let Layer { layer, kernel } = &self.layers.layers[of];
        let [height, width] = kernel.unwrap_or([1, 1]);
        let (gamma, beta) = self.affine(path, layer.d_in / (height * width))?;
        Ok(GroupNorm {
            gamma,
            beta,
            groups,
            epsilon,
        })
    }

    /// A norm of rows as wide as the inputs of a layer.
    ///
    /// - of: the layer that it is in front of
    pub fn layer_norm(&mut self, path: &str, of: &str) -> Result<LayerNorm, ModelError> {
        let (gamma, beta) = self.affine(path, self.layers.layers[of].layer.d_in)?;
        Ok(LayerNorm { gamma, beta })
    }

    fn affine(
        &mut self,
        path: &str,
        width: usize,
    ) -> Result<(Param<Tensor<1>>, Param<Tensor<1>>), ModelError> {
        let mut part = |name: &str| {
            let tensor = self
                .builder
                .frozen_tensor(&format!("{path}.{name}"), [width])?;
            Ok::<_, ModelError>(Param::from_tensor(tensor).set_require_grad(false))
        };
        Ok((part("weight")?, part("bias")?))
    }
}

/// A layer that computes with every pixel alone.
#[derive(Module, Debug)]
pub(crate) enum Projection {
    Linear(AdaptedLinear),
    Convolution(AdaptedConvolution),
}

impl Projection {
    /// - input: `[rows, c_in]`
    /// - residual, output: `[rows, c_out]`
    pub fn forward(&self, input: Tensor<2>, residual: Option<Tensor<2>>) -> Tensor<2> {
        match self {
            Self::Linear(layer) => AdaptedLinear::forward_together(&[layer], input, residual),
            Self::Convolution(layer) => layer.of_pixels(input, residual),
        }
    }
}

/// Normalisation over the pixels and over groups of channels.
#[derive(Module, Debug)]
pub(crate) struct GroupNorm {
    gamma: Param<Tensor<1>>,
    beta: Param<Tensor<1>>,
    groups: usize,
    epsilon: f64,
}

impl GroupNorm {
    /// The norm alone.
    pub fn forward(&self, input: &Pixels) -> Tensor<2> {
        self.run(input, None, false)
    }

    /// x · σ(x) of the norm of the input plus `shift`.
    ///
    /// - shift: `[images, channels]`
    pub fn activated(&self, input: &Pixels, shift: Option<Tensor<2>>) -> Tensor<2> {
        self.run(input, shift, true)
    }

    fn run(&self, input: &Pixels, shift: Option<Tensor<2>>, silu: bool) -> Tensor<2> {
        let shape = GroupNormShape {
            images: input.images,
            groups: self.groups,
            epsilon: self.epsilon,
            silu,
        };
        let (gamma, beta) = (self.gamma.val(), self.beta.val());
        group_norm(input.rows.clone(), shift, gamma, beta, shape)
    }
}

/// Normalisation of every row.
#[derive(Module, Debug)]
pub(crate) struct LayerNorm {
    gamma: Param<Tensor<1>>,
    beta: Param<Tensor<1>>,
}

impl LayerNorm {
    /// - input, output: `[rows, width]`
    pub fn forward(&self, input: Tensor<2>) -> Tensor<2> {
        eigenmix_kernels::layer_norm(input, self.gamma.val(), self.beta.val(), 1e-5)
    }
}

/// A convolution that keeps the size of the image.
pub(crate) fn same_size(
    layer: &AdaptedConvolution,
    input: &Pixels,
    rows: Tensor<2>,
    residual: Option<Tensor<2>>,
) -> Pixels {
    let kernel = layer.kernel();
    let shape = ConvolutionShape::new(input.images, input.size, kernel, 1, kernel[0] / 2);
    input.with(layer.forward(rows, residual, &shape))
}

/// A convolution that halves the image.
///
/// - padding: rows and columns of zeros before and behind the image
pub(crate) fn halved(layer: &AdaptedConvolution, input: Pixels, padding: [usize; 2]) -> Pixels {
    let shape = ConvolutionShape {
        padding,
        ..ConvolutionShape::new(input.images, input.size, layer.kernel(), 2, 0)
    };
    Pixels {
        images: input.images,
        size: shape.output(),
        rows: layer.forward(input.rows, None, &shape),
    }
}

/// A convolution of the image that was enlarged to `size` by repeating pixels.
pub(crate) fn enlarged(layer: &AdaptedConvolution, input: Pixels, size: [usize; 2]) -> Pixels {
    let kernel = layer.kernel();
    let shape = ConvolutionShape {
        enlarged: size,
        ..ConvolutionShape::new(input.images, input.size, kernel, 1, kernel[0] / 2)
    };
    Pixels {
        images: input.images,
        size,
        rows: layer.forward(input.rows, None, &shape),
    }
}
