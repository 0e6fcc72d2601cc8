//! Converts between a checkpoint's tensors and the decoder's parameters: transposes, splits, concatenates,
//! reorders rows.
//!
//! [`split`] and [`join`] are each other's inverse, bit for bit: widening to f32 and narrowing back is exact,
//! and rows of quantized blocks are moved whole.

use parlor_kernels::{DType, Tensor, TensorError};

use crate::config::WeightStorage;
use crate::decoder::{ParameterSpec, Role, TensorLayout};

/// The shape of a checkpoint's tensor that holds the parameters `specs`, in this order.
pub(crate) fn disk_shape(layout: TensorLayout, specs: &[&ParameterSpec]) -> Vec<usize> {
    let outputs = specs.iter().map(|spec| spec.shape.first().copied().unwrap_or(0)).sum();
    let rest = specs.first().map(|spec| spec.shape.get(1..).unwrap_or_default()).unwrap_or_default();
    match (layout, rest) {
        (TensorLayout::Transposed, [inputs]) => vec![*inputs, outputs],
        (_, rest) => std::iter::once(outputs).chain(rest.iter().copied()).collect(),
    }
}

/// Whether the stored tensor equals the one parameter in it.
pub(crate) fn is_direct(layout: TensorLayout, roles: &[Role]) -> bool {
    layout == TensorLayout::Plain && roles.len() == 1
}

/// Whether the parameters are rows of the stored tensor, so that they can stay in the mapped file.
pub(crate) fn is_rows(layout: TensorLayout) -> bool {
    layout == TensorLayout::Plain
}

/// The stored row of row `row` of a parameter in the interleaved layout.
fn interleaved(row: usize, outputs: usize, heads: usize) -> usize {
    let width = outputs / heads.max(1);
    let half = (width / 2).max(1);
    let (head, within) = (row / width.max(1), row % width.max(1));
    head * width + within % half * 2 + within / half
}

/// The parameters `specs` of a checkpoint's tensor of [`disk_shape`], each in `dtype`: mapped where `storage`
/// and the layout allow it, owned otherwise.
pub(crate) fn split(
    tensor: &Tensor,
    layout: TensorLayout,
    specs: &[&ParameterSpec],
    dtype: DType,
    storage: WeightStorage,
) -> Result<Vec<Tensor>, TensorError> {
    let total: usize = specs.iter().map(|spec| spec.shape.first().copied().unwrap_or(0)).sum();
    let values = if layout == TensorLayout::Transposed { tensor.to_f32_vec() } else { Vec::new() };
    let mut offset = 0;
    let mut parts = Vec::with_capacity(specs.len());
    for spec in specs {
        let outputs = spec.shape.first().copied().unwrap_or(0);
        let inputs: usize = spec.shape.iter().skip(1).product();
        let rows = offset..offset + outputs;
        let part = match layout {
            TensorLayout::Plain => rows_of(tensor, rows, spec)?,
            TensorLayout::Interleaved { heads } => {
                tensor.gather_rows(rows.map(|row| interleaved(row, total, heads)))?
            }
            TensorLayout::Transposed => {
                let mut part = Vec::with_capacity(outputs * inputs);
                for output in rows {
                    part.extend((0..inputs).map(|input| values[input * total + output]));
                }
                Tensor::from_f32(&spec.shape, part)?
            }
        };
        offset += outputs;
        let done = part.dtype() == dtype && (storage == WeightStorage::Mapped || part.owned_bytes() > 0);
        parts.push(if done { part } else { part.to_dtype(dtype) });
    }
    Ok(parts)
}

/// Some rows of a tensor; widened to f32 where quantized blocks cross their boundary.
fn rows_of(
    tensor: &Tensor,
    rows: std::ops::Range<usize>,
    spec: &ParameterSpec,
) -> Result<Tensor, TensorError> {
    match tensor.rows(rows.clone()) {
        Err(TensorError::Rows { .. }) => {
            let inputs: usize = spec.shape.iter().skip(1).product();
            let mut values = vec![0.0; rows.len() * inputs];
            tensor.view().widen_range(rows.start * inputs..rows.end * inputs, &mut values);
            Tensor::from_f32(&spec.shape, values)
        }
        part => part,
    }
}

/// The checkpoint's tensor that holds these parameters, in `dtype`.
pub(crate) fn join(layout: TensorLayout, parts: &[&Tensor], dtype: DType) -> Result<Tensor, TensorError> {
    let outputs: usize = parts.iter().map(|part| part.shape().first().copied().unwrap_or(0)).sum();
    let rest = parts.first().map(|part| part.shape().get(1..).unwrap_or_default()).unwrap_or_default();
    let mut values = Vec::with_capacity(parts.iter().map(|part| part.len()).sum());
    for part in parts {
        values.extend(part.to_f32_vec());
    }
    let joined = match (layout, rest) {
        (TensorLayout::Transposed, &[inputs]) => {
            let mut turned = Vec::with_capacity(values.len());
            for input in 0..inputs {
                turned.extend((0..outputs).map(|output| values[output * inputs + input]));
            }
            Tensor::from_f32(&[inputs, outputs], turned)?
        }
        (layout, rest) => {
            let shape: Vec<usize> = std::iter::once(outputs).chain(rest.iter().copied()).collect();
            let plain = Tensor::from_f32(&shape, values)?;
            match layout {
                TensorLayout::Interleaved { heads } => {
                    let mut order = vec![0; outputs];
                    for row in 0..outputs {
                        order[interleaved(row, outputs, heads)] = row;
                    }
                    plain.gather_rows(order)?
                }
                _ => plain,
            }
        }
    };
    Ok(if dtype == DType::F32 { joined } else { joined.to_dtype(dtype) })
}

/// The specifications of a tensor's parameters, in order; `None` when the decoder lacks a role.
pub(crate) fn specs_of<'a>(
    roles: &[Role],
    find: impl Fn(Role) -> Option<&'a ParameterSpec>,
) -> Option<Vec<&'a ParameterSpec>> {
    roles.iter().map(|role| find(*role)).collect()
}
