//! A frozen weight, in the form in which it is stored in memory.

use burn::backend::Dispatch;
use burn::module::{Module, Param};
use burn::tensor::{DType, Device, FloatDType, Int, Tensor};

use crate::stored_weight::StoredWeight;
use crate::{has_kernels, widens_half_precision};

/// A frozen matrix W `[d_out, d_in]`, in the form in which it is stored in memory. Models use it
/// through the operations of this crate, which know the forms:
/// [`adapted_linear`](crate::adapted_linear) and [`Weight::product`](crate::Weight::product)
/// multiply by it, forward and backward, [`sum_of_rows`](crate::sum_of_rows) reads its rows, and
/// [`linear_cross_entropy`](crate::linear_cross_entropy) uses it as an output layer.
///
/// A new form is one more variant here, with its composed operations for devices without kernels,
/// and one of `StoredWeight`, with how the CPU reads it.
#[derive(Module, Debug)]
pub struct FrozenWeight {
    form: Form,
}

/// How a weight is stored. Its parameters are those of a module, so that it moves with the model;
/// they are never trained.
#[derive(Module, Debug)]
enum Form {
    /// `[d_out, d_in]` in f32, f16 or bf16.
    Float(Param<Tensor<2>>),
}

impl From<Tensor<2>> for FrozenWeight {
    /// - values: `[d_out, d_in]`, in any float type
    fn from(values: Tensor<2>) -> Self {
        let values = Param::from_tensor(values).set_require_grad(false);
        let form = Form::Float(values);
        Self { form }
    }
}

impl FrozenWeight {
    /// `[d_out, d_in]`
    pub fn dims(&self) -> [usize; 2] {
        match &self.form {
            Form::Float(values) => values.val().dims(),
        }
    }

    pub fn device(&self) -> Device {
        match &self.form {
            Form::Float(values) => values.val().device(),
        }
    }

    /// Wᵀ `[d_in, d_out]`, for weights that a checkpoint stores transposed.
    ///
    /// In half precision its rows are put one after the other: a kernel that reads them as they are
    /// stored, or widens them for a product, would otherwise do that each time.
    pub fn transposed(self) -> Self {
        match self.form {
            Form::Float(values) => {
                let values = values.val();
                let (dtype, device) = (values.dtype(), values.device());
                let transposed = values.transpose();
                match dtype != DType::F32 && has_kernels(&device) {
                    true => Tensor::from_data(transposed.into_data(), (&device, dtype)).into(),
                    false => transposed.into(),
                }
            }
        }
    }

    /// x · Wᵀ, composed of Burn's operations. Half-precision weights are multiplied in their own
    /// type, unless the device can compute with them only by widening them.
    ///
    /// - input: `[rows, d_in]`, f32
    /// - output: `[rows, d_out]`, f32
    pub(crate) fn composed_product(&self, input: Tensor<2>) -> Tensor<2> {
        match &self.form {
            Form::Float(values) => {
                let values = values.val();
                let kept = match values.dtype() {
                    DType::F32 => return input.matmul(values.transpose()),
                    _ if widens_half_precision(&values.device()) => {
                        return input.matmul(values.cast(FloatDType::F32).transpose());
                    }
                    DType::BF16 => FloatDType::BF16,
                    _ => FloatDType::F16,
                };
                let product = input.cast(kept).matmul(values.transpose());
                product.cast(FloatDType::F32)
            }
        }
    }

    /// Rows of W in f32, composed of Burn's operations.
    ///
    /// - indices: `[rows]`
    /// - output: `[rows, d_in]`
    pub(crate) fn composed_rows(&self, indices: Tensor<1, Int>) -> Tensor<2> {
        match &self.form {
            Form::Float(values) => values.val().select(0, indices).cast(FloatDType::F32),
        }
    }

    /// As kernels take it.
    pub(crate) fn stored(&self) -> StoredWeight<Dispatch> {
        match &self.form {
            Form::Float(values) => StoredWeight::Float(values.val().into_dispatch()),
        }
    }
}
