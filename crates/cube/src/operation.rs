//! How a function of this crate becomes an operation of Burn's: in its queue, computed when its turn comes.

use std::fmt::Debug;

use burn::backend::fusion::FusionTensor;
use burn::backend::fusion::custom::{
    CustomOpIr, HandleContainer, OperationFn, OperationIr, StreamId, TensorIr,
};
use burn::tensor::{DType, Int, Shape, Tensor};
use burn_cubecl::fusion::{CubeFusionHandle, FusionCubeRuntime};
use burn_cubecl::kernel::into_contiguous;
use burn_cubecl::ops::numeric::empty_device_contiguous_dtype;
use burn_cubecl::tensor::CubeTensor;
use burn_cubecl::{Cube, CubeBackend};

/// A tensor of the queue.
pub(crate) type Queued = FusionTensor<FusionCubeRuntime>;

/// What is done with tensors of a device.
pub(crate) trait Operation: Debug + Send + Sync + 'static {
    const NAME: &'static str;

    /// The shapes of the outputs, which are f32.
    fn outputs(&self, inputs: &[Shape]) -> Vec<Shape>;

    /// The outputs.
    fn run(&self, inputs: Vec<CubeTensor>) -> Vec<CubeTensor>;
}

/// The outputs of an operation.
///
/// - inputs: at least one
pub(crate) fn run<O: Operation>(operation: O, inputs: Vec<Queued>) -> Vec<Queued> {
    let client = inputs[0].client.clone();
    let shapes: Vec<Shape> = inputs.iter().map(|input| input.shape.clone()).collect();
    let inputs: Vec<TensorIr> = inputs.into_iter().map(FusionTensor::into_ir).collect();
    let outputs = operation.outputs(&shapes).into_iter();
    let outputs =
        outputs.map(|shape| TensorIr::uninit(client.create_empty_handle(), shape, DType::F32));
    let outputs: Vec<TensorIr> = outputs.collect();
    let description = CustomOpIr {
        id: O::NAME.into(),
        inputs: inputs.clone(),
        outputs: outputs.clone(),
        scalars: Vec::new(),
    };
    let compute = OperationFn(move |handles: &mut HandleContainer<CubeFusionHandle>| {
        let inputs = inputs
            .iter()
            .map(|input| handles.get_float_tensor::<CubeBackend>(input))
            .collect();
        for (output, found) in outputs.iter().zip(operation.run(inputs)) {
            debug_assert_eq!(output.shape, *found.meta.shape(), "{}", O::NAME);
            handles.register_float_tensor::<CubeBackend>(&output.id, found);
        }
        Ok(())
    });
    client.register(
        StreamId::current(),
        OperationIr::Custom(description),
        compute,
    )
}

/// # Panics
/// If the tensor is in a graph, or of another backend.
pub(crate) fn queued<const D: usize>(tensor: Tensor<D>) -> Queued {
    tensor
        .try_into_primitive::<Cube>()
        .expect("a tensor of a GPU, outside of a graph")
}

/// # Panics
/// If the tensor is of another backend.
pub(crate) fn queued_numbers<const D: usize>(tensor: Tensor<D, Int>) -> Queued {
    tensor
        .try_into_primitive::<Cube>()
        .expect("numbers of a GPU")
}

pub(crate) fn tensor<const D: usize>(queued: Queued) -> Tensor<D> {
    Tensor::from_primitive::<Cube>(queued)
}

/// A tensor whose values nobody wrote yet, on the device of `like`.
pub(crate) fn unwritten(like: &CubeTensor, shape: impl Into<Shape>) -> CubeTensor {
    let (client, device) = (like.client.clone(), like.device.clone());
    empty_device_contiguous_dtype(client, device, shape.into(), DType::F32)
}

/// The tensor with its values in the order of its places, as kernels read it.
pub(crate) fn in_order(tensor: CubeTensor) -> CubeTensor {
    into_contiguous(tensor)
}
