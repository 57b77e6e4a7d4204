//! A frozen weight, in the form in which it is stored in memory.

use burn::backend::Dispatch;
use burn::module::{Module, Param};
use burn::tensor::{DType, Device, FloatDType, Int, Tensor, TensorData};
use bytes::Bytes;
use eigenmix_quant::{EncodedMatrix, Encoding};

use crate::composition::constant;
use crate::device_weight::DeviceWeight;
use crate::has_kernels;
use crate::packed_weight::PackedWeight;
use crate::stored_weight::StoredWeight;

/// A frozen matrix W `[d_out, d_in]`, in the form in which it is stored in memory. Models use it
/// through the operations of this crate, which know the forms:
/// [`adapted_linear`](crate::adapted_linear) and [`Weight::product`](crate::Weight::product)
/// multiply by it, forward and backward, [`sum_of_rows`](crate::sum_of_rows) reads its rows, and
/// [`linear_cross_entropy`](crate::linear_cross_entropy) uses it as an output layer.
#[derive(Module, Debug)]
pub struct FrozenWeight {
    form: Form,
}

/// How a weight is stored.
#[derive(Module, Debug)]
enum Form {
    /// `[d_out, d_in]`: in f32 where there are kernels, and in any float type elsewhere. A parameter of
    /// the module, so that it moves with the model; it is never trained.
    Float(Param<Tensor<2>>),
    /// In fewer bits, where there are kernels.
    Encoded(Encoded),
    /// In fewer bits, on other devices.
    Packed(Packed),
}

/// A packed weight, and the device of what is computed with it.
#[derive(Module, Debug)]
struct Packed {
    #[module(skip)]
    weight: Box<PackedWeight>,
    #[module(skip)]
    device: Device,
}

impl Packed {
    /// What was decoded as a constant of the device, which may keep graphs.
    fn constant(&self, values: Tensor<2>) -> Tensor<2> {
        match self.device.is_autodiff() {
            true => Tensor::from_inner(values),
            false => values,
        }
    }

    fn decoded(&self) -> Tensor<2> {
        self.constant(self.weight.decoded())
    }
}

/// An encoded weight, and the device of what is computed with it.
#[derive(Module, Debug)]
struct Encoded {
    #[module(skip)]
    matrix: EncodedMatrix,
    #[module(skip)]
    device: Device,
}

impl From<Tensor<2>> for FrozenWeight {
    /// - values: `[d_out, d_in]`, in any float type
    fn from(values: Tensor<2>) -> Self {
        let device = values.device();
        let half = match values.dtype() {
            DType::F16 => Some(Encoding::F16),
            DType::BF16 => Some(Encoding::Bf16),
            _ => None,
        };
        if let Some(encoding) = half.filter(|_| has_kernels(&device)) {
            let (shape, data) = (values.dims(), values.into_data());
            let bytes = Bytes::copy_from_slice(data.as_bytes());
            let matrix = EncodedMatrix::blocks(encoding, shape, bytes);
            return Self::encoded(matrix.expect("a tensor is as large as its shape"), &device);
        }
        let values = Param::from_tensor(values).set_require_grad(false);
        let form = Form::Float(values);
        Self { form }
    }
}

impl FrozenWeight {
    /// A weight in few bits. Where there are no kernels, a GPU decodes it whenever it is used, as any device does
    /// one in NF4 or eight bits; others are decoded here, to half precision if the device computes with it.
    pub fn encoded(matrix: EncodedMatrix, device: &Device) -> Self {
        if has_kernels(device) {
            let device = device.clone();
            let form = Form::Encoded(Encoded { matrix, device });
            return Self { form };
        }
        if let Some(weight) = PackedWeight::new(&matrix, &device.clone().inner()) {
            let (weight, device) = (Box::new(weight), device.clone());
            let form = Form::Packed(Packed { weight, device });
            return Self { form };
        }
        let half = match matrix.encoding() {
            Some(Encoding::F32) => FloatDType::F32,
            Some(Encoding::Bf16) => FloatDType::BF16,
            _ => FloatDType::F16,
        };
        let kept = match device.supports_dtype(half) {
            true => half,
            false => FloatDType::F32,
        };
        decoded(&matrix, device).cast(kept).into()
    }

    /// `[d_out, d_in]`
    pub fn dims(&self) -> [usize; 2] {
        match &self.form {
            Form::Float(values) => values.val().dims(),
            Form::Encoded(encoded) => encoded.matrix.shape(),
            Form::Packed(packed) => packed.weight.dims(),
        }
    }

    pub fn device(&self) -> Device {
        match &self.form {
            Form::Float(values) => values.val().device(),
            Form::Encoded(encoded) => encoded.device.clone(),
            Form::Packed(packed) => packed.device.clone(),
        }
    }

    /// Wᵀ `[d_in, d_out]`, for weights that a checkpoint stores transposed. Of a weight in half
    /// precision the values move; one in fewer bits is kept in f32 from here on.
    pub fn transposed(self) -> Self {
        match self.form {
            Form::Float(values) => values.val().transpose().into(),
            Form::Encoded(Encoded { matrix, device }) => {
                let transposed = decoded(&matrix, &device).transpose();
                match matrix.encoding() {
                    Some(Encoding::F16) => transposed.cast(FloatDType::F16).into(),
                    Some(Encoding::Bf16) => transposed.cast(FloatDType::BF16).into(),
                    _ => transposed.into(),
                }
            }
            Form::Packed(packed) => packed.decoded().transpose().into(),
        }
    }

    /// x · Wᵀ, composed of Burn's operations. Half-precision weights are multiplied in their own
    /// type.
    ///
    /// - input: `[rows, d_in]`, f32
    /// - output: `[rows, d_out]`, f32
    pub(crate) fn composed_product(&self, input: Tensor<2>) -> Tensor<2> {
        match &self.form {
            Form::Float(values) => {
                let values = values.val();
                let kept = match values.dtype() {
                    DType::F32 => return input.matmul(values.transpose()),
                    DType::BF16 => FloatDType::BF16,
                    _ => FloatDType::F16,
                };
                let product = input.cast(kept).matmul(values.transpose());
                product.cast(FloatDType::F32)
            }
            Form::Encoded(Encoded { matrix, device }) => {
                input.matmul(decoded(matrix, device).transpose())
            }
            Form::Packed(packed) => input.matmul(packed.decoded().transpose()),
        }
    }

    /// Rows of W in f32, composed of Burn's operations.
    ///
    /// - indices: `[rows]`
    /// - output: `[rows, d_in]`
    pub(crate) fn composed_rows(&self, indices: Tensor<1, Int>) -> Tensor<2> {
        match &self.form {
            Form::Float(values) => values.val().select(0, indices).cast(FloatDType::F32),
            Form::Encoded(Encoded { matrix, device }) => decoded(matrix, device).select(0, indices),
            Form::Packed(packed) => {
                let indices = match indices.device().is_autodiff() {
                    true => indices.inner(),
                    false => indices,
                };
                packed.constant(packed.weight.decoded_rows(indices))
            }
        }
    }

    /// As operations take it where there are no kernels.
    pub(crate) fn on_device(&self) -> DeviceWeight {
        DeviceWeight::Float(match &self.form {
            Form::Float(values) => constant(values.val()),
            Form::Encoded(Encoded { matrix, device }) => decoded(matrix, &device.clone().inner()),
            Form::Packed(packed) => return DeviceWeight::Packed(packed.weight.clone()),
        })
    }

    /// As kernels take it.
    pub(crate) fn stored(&self) -> StoredWeight<Dispatch> {
        match &self.form {
            Form::Float(values) => StoredWeight::Float(values.val().into_dispatch()),
            Form::Encoded(encoded) => StoredWeight::Encoded(encoded.matrix.clone()),
            Form::Packed(packed) => StoredWeight::Float(packed.decoded().into_dispatch()),
        }
    }
}

/// W in f32.
fn decoded(matrix: &EncodedMatrix, device: &Device) -> Tensor<2> {
    let data = TensorData::new(matrix.to_f32(), matrix.shape());
    Tensor::from_data(data, device)
}
