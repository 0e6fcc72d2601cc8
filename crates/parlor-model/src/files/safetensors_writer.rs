//! Writes tensors to one safetensors file, and converts them one at a time, so that only one is in memory
//! twice.
//!
//! Own code because the `safetensors` crate needs the bytes of all tensors at once.

use std::collections::HashMap;
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;

use parlor_kernels::{DType, Tensor};
use safetensors::tensor::{Dtype, Metadata, TensorInfo};

use super::layout::join;
use super::synced_file::at;
use crate::decoder::TensorLayout;
use crate::error::SaveError;

/// A tensor to write.
pub(crate) struct TensorToWrite<'a> {
    pub(crate) name: String,
    pub(crate) layout: TensorLayout,
    pub(crate) parts: Vec<&'a Tensor>,
    pub(crate) shape: Vec<usize>,
    pub(crate) dtype: DType,
}

impl TensorToWrite<'_> {
    pub(crate) fn bytes(&self) -> u64 {
        self.dtype.bytes(self.shape.iter().product()) as u64
    }

    fn write(&self, out: &mut impl Write, path: &Path) -> Result<(), SaveError> {
        if let [only] = self.parts[..]
            && only.shape() == self.shape
            && self.layout == TensorLayout::Plain
        {
            return match only.dtype() == self.dtype {
                true => at(path, out.write_all(only.bytes())),
                false => at(path, out.write_all(only.to_dtype(self.dtype).bytes())),
            };
        }
        let joined = join(self.layout, &self.parts, self.dtype)
            .map_err(|error| SaveError::Tensor { name: self.name.clone(), message: error.to_string() })?;
        at(path, out.write_all(joined.bytes()))
    }
}

/// Writes `tensors` to `path` as safetensors and fsyncs it. The order is that of the safetensors crate (wider
/// dtypes first, then by name), so that equal weights make equal files.
pub(crate) fn write_safetensors(path: &Path, tensors: &[TensorToWrite<'_>]) -> Result<(), SaveError> {
    let disk_dtype = |dtype: DType| match dtype {
        DType::F32 => Dtype::F32,
        // Quantized blocks are widened: see `DType::plain`.
        DType::Bf16 | DType::Block(_) => Dtype::BF16,
        DType::F16 => Dtype::F16,
    };
    let mut order: Vec<&TensorToWrite<'_>> = tensors.iter().collect();
    order.sort_by(|a, b| b.dtype.bytes(1).cmp(&a.dtype.bytes(1)).then_with(|| a.name.cmp(&b.name)));
    let mut offset = 0;
    let mut infos = Vec::with_capacity(order.len());
    for tensor in &order {
        let end = offset + tensor.bytes() as usize;
        let info = TensorInfo {
            dtype: disk_dtype(tensor.dtype),
            shape: tensor.shape.clone(),
            data_offsets: (offset, end),
        };
        infos.push((tensor.name.clone(), info));
        offset = end;
    }
    let failed = |message: String| SaveError::Tensor { name: "header".to_owned(), message };
    // Readers such as transformers insist on this key.
    let format = HashMap::from([("format".to_owned(), "pt".to_owned())]);
    let metadata = Metadata::new(Some(format), infos).map_err(|error| failed(error.to_string()))?;
    let mut header = serde_json::to_vec(&metadata).map_err(|error| failed(error.to_string()))?;
    header.resize(header.len().next_multiple_of(8), b' ');

    let file = at(path, File::create(path))?;
    let mut out = BufWriter::with_capacity(1 << 20, &file);
    at(path, out.write_all(&(header.len() as u64).to_le_bytes()))?;
    at(path, out.write_all(&header))?;
    for tensor in order {
        tensor.write(&mut out, path)?;
    }
    at(path, out.flush())?;
    drop(out);
    at(path, file.sync_all())
}
