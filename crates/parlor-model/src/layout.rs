//! Between a checkpoint's tensors and the decoder's parameters: transposing, splitting, joining.
//!
//! [`split`] and [`join`] are each other's inverse, bit for bit: widening to f32 and narrowing back is exact.

use parlor_kernels::{DType, Tensor, TensorError};

use crate::arch::{DiskTensor, Layout};
use crate::parameter::{ParameterSpec, Role};

/// The shape that a checkpoint's tensor must have to hold the parameters `specs`, which are in its order.
pub(crate) fn disk_shape(layout: Layout, specs: &[&ParameterSpec]) -> Vec<usize> {
    let outputs = specs.iter().map(|spec| spec.shape.first().copied().unwrap_or(0)).sum();
    let rest = specs.first().map(|spec| spec.shape.get(1..).unwrap_or_default()).unwrap_or_default();
    match (layout, rest) {
        (Layout::Transposed, [inputs]) => vec![*inputs, outputs],
        (_, rest) => std::iter::once(outputs).chain(rest.iter().copied()).collect(),
    }
}

/// Whether the tensor is, as it lies on disk, the one parameter in it.
pub(crate) fn is_direct(disk: &DiskTensor) -> bool {
    disk.layout == Layout::Plain && disk.roles.len() == 1
}

/// The parameters `specs` out of a checkpoint's tensor of [`disk_shape`], each owned and in `dtype`.
pub(crate) fn split(
    tensor: &Tensor,
    layout: Layout,
    specs: &[&ParameterSpec],
    dtype: DType,
) -> Result<Vec<Tensor>, TensorError> {
    let values = tensor.to_f32_vec();
    let total: usize = specs.iter().map(|spec| spec.shape.first().copied().unwrap_or(0)).sum();
    let mut offset = 0;
    let mut parts = Vec::with_capacity(specs.len());
    for spec in specs {
        let outputs = spec.shape.first().copied().unwrap_or(0);
        let inputs: usize = spec.shape.iter().skip(1).product();
        let part = match layout {
            Layout::Plain => values[offset * inputs..(offset + outputs) * inputs].to_vec(),
            Layout::Transposed => {
                let mut part = Vec::with_capacity(outputs * inputs);
                for output in offset..offset + outputs {
                    part.extend((0..inputs).map(|input| values[input * total + output]));
                }
                part
            }
        };
        offset += outputs;
        let part = Tensor::from_f32(&spec.shape, part)?;
        parts.push(if dtype == DType::F32 { part } else { part.to_dtype(dtype) });
    }
    Ok(parts)
}

/// A checkpoint's tensor out of the parameters in it, in `dtype`.
pub(crate) fn join(layout: Layout, parts: &[&Tensor], dtype: DType) -> Result<Tensor, TensorError> {
    let outputs: usize = parts.iter().map(|part| part.shape().first().copied().unwrap_or(0)).sum();
    let rest = parts.first().map(|part| part.shape().get(1..).unwrap_or_default()).unwrap_or_default();
    let mut values = Vec::with_capacity(parts.iter().map(|part| part.len()).sum());
    for part in parts {
        values.extend(part.to_f32_vec());
    }
    let joined = match (layout, rest) {
        (Layout::Transposed, &[inputs]) => {
            let mut turned = Vec::with_capacity(values.len());
            for input in 0..inputs {
                turned.extend((0..outputs).map(|output| values[output * inputs + input]));
            }
            Tensor::from_f32(&[inputs, outputs], turned)?
        }
        (_, rest) => {
            let shape: Vec<usize> = std::iter::once(outputs).chain(rest.iter().copied()).collect();
            Tensor::from_f32(&shape, values)?
        }
    };
    Ok(if dtype == DType::F32 { joined } else { joined.to_dtype(dtype) })
}

/// The specifications of a tensor's parameters, in its order; `None` when the decoder has no such role.
pub(crate) fn specs_of<'a>(
    roles: &[Role],
    find: impl Fn(Role) -> Option<&'a ParameterSpec>,
) -> Option<Vec<&'a ParameterSpec>> {
    roles.iter().map(|role| find(*role)).collect()
}
