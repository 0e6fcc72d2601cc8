//! Reads a decoder from the tensors of a model's files. Every tensor is accounted for, or it is an error.
//!
//! Weights that need no conversion stay in the mapped file: loading them costs no memory and no time. Leaves
//! out: tokenizer and template (`load.rs` joins both) and the choice of device.

use std::collections::HashMap;

use parlor_kernels::{DType, Tensor};
use rayon::prelude::*;

use super::tensor_names::{match_names, untie_differing_head};
use crate::arch::{Architecture, CheckpointTensor};
use crate::config::{DecoderConfig, LoadOptions, TorchDtype, WeightLayout, WeightStorage};
use crate::decoder::{Decoder, Parameter, ParameterPart, ParameterSpec, Role, parameter_specs};
use crate::error::{LoadErrorKind, ModelLoadError};
use crate::files::{Container, WeightFiles};
use crate::files::{disk_shape, is_direct, is_rows, specs_of, split};

/// A decoder of known family and shape from the weights in `files`, and warnings about what they hold.
///
/// # Errors
/// `Corrupt` for missing and misshapen tensors, and for those inside the decoder that it does not have;
/// `Incompatible` for dtypes that are not read; `OutOfMemory` when conversion would need more memory than
/// there is.
pub fn read_decoder(
    files: &WeightFiles,
    architecture: Architecture,
    config: &DecoderConfig,
    options: &LoadOptions,
) -> Result<(Decoder, Vec<String>), ModelLoadError> {
    let place = files.files().first().map(|path| path.display().to_string()).unwrap_or_default();
    let (config, untied) = untie_differing_head(files, architecture, config)?;
    let config = &*config;
    let mut warnings: Vec<String> = untied.into_iter().collect();
    let disk = match files.container() {
        Container::Safetensors => architecture.checkpoint_tensors(config),
        Container::Gguf => architecture.gguf_tensors(config),
    };
    let (found, extra) = match_names(files, &disk, architecture, config, &place)?;
    warnings.extend(extra);
    let specs = parameter_specs(config);
    let by_role: HashMap<Role, usize> =
        specs.iter().enumerate().map(|(index, spec)| (spec.role, index)).collect();
    let find = |role: Role| by_role.get(&role).and_then(|&index| specs.get(index));

    // Dtypes and shapes first: every check is made before anything is allocated.
    let mut plan = Vec::with_capacity(disk.len());
    let mut needed = 0u64;
    for (tensor, (name, entry)) in disk.iter().zip(&found) {
        let inside = specs_of(&tensor.roles, find).unwrap_or_default();
        let mapped = entry.tensor(name, &disk_shape(tensor.layout, &inside))?;
        let dtype = match options.quantization {
            Some(format) if inside.iter().all(|spec| is_linear(spec)) => DType::Block(format),
            _ => options.dtype.resolve(mapped.dtype()),
        };
        let storage = match is_rows(tensor.layout) && dtype == mapped.dtype() {
            true => options.storage,
            false => WeightStorage::Owned,
        };
        let prepacked = options.layout == WeightLayout::Prepacked && matches!(dtype, DType::Block(_));
        if storage == WeightStorage::Owned || prepacked {
            needed += dtype.bytes(mapped.len()) as u64;
        }
        plan.push(PlannedTensor { tensor, specs: inside, mapped, dtype, storage });
    }
    check_memory(needed, files, options, &place)?;

    let parts: Vec<(ParameterSpec, Tensor)> = plan
        .into_par_iter()
        .map(PlannedTensor::read)
        .collect::<Result<Vec<_>, ModelLoadError>>()?
        .into_iter()
        .flatten()
        .collect();
    let mut slots: Vec<Option<Parameter>> = specs.iter().map(|_| None).collect();
    for (spec, tensor) in parts {
        if let Some(slot) = by_role.get(&spec.role).and_then(|&index| slots.get_mut(index)) {
            *slot = Some(Parameter { spec, tensor });
        }
    }
    let mut decoder =
        Decoder::new(config.clone(), slots.into_iter().flatten().collect()).map_err(|error| {
            ModelLoadError::new(LoadErrorKind::Corrupt, &place, error.to_string(), "report this as a bug")
        })?;
    if options.layout == WeightLayout::Prepacked {
        decoder.optimize_for_inference();
    }
    Ok((decoder, warnings))
}

/// Whether a parameter is the weight of a block's linear layer.
fn is_linear(spec: &ParameterSpec) -> bool {
    matches!(spec.role, Role::Block { site, part: ParameterPart::Weight, .. } if site.is_linear())
}

/// A tensor that passed all checks, and how its parameters are stored.
struct PlannedTensor<'a> {
    tensor: &'a CheckpointTensor,
    specs: Vec<&'a ParameterSpec>,
    mapped: Tensor,
    dtype: DType,
    storage: WeightStorage,
}

impl PlannedTensor<'_> {
    /// The parameters in it.
    fn read(self) -> Result<Vec<(ParameterSpec, Tensor)>, ModelLoadError> {
        let Self { tensor, specs, mapped, dtype, storage } = self;
        let parts = match (is_direct(tensor.layout, &tensor.roles), storage) {
            (true, WeightStorage::Mapped) => vec![mapped],
            (true, WeightStorage::Owned) => vec![mapped.to_dtype(dtype)],
            (false, _) => split(&mapped, tensor.layout, &specs, dtype, storage).map_err(|error| {
                let (name, help) = (&tensor.name, "report this as a bug");
                ModelLoadError::new(LoadErrorKind::Corrupt, name, error.to_string(), help)
            })?,
        };
        Ok(specs.into_iter().cloned().zip(parts).collect())
    }
}

fn check_memory(
    needed: u64,
    files: &WeightFiles,
    options: &LoadOptions,
    place: &str,
) -> Result<(), ModelLoadError> {
    let Some(available) = options.memory_limit.or_else(crate::memory::available_bytes) else { return Ok(()) };
    if needed <= available {
        return Ok(());
    }
    let elements: u64 = files.iter().map(|(_, entry)| entry.shape().iter().product::<usize>() as u64).sum();
    // Units that show the difference.
    let shown = |bytes: u64| match bytes {
        0..10_240 => format!("{bytes} bytes"),
        10_240..10_485_760 => format!("{} KiB", bytes >> 10),
        _ => format!("{} MiB", bytes >> 20),
    };
    let help = if options.storage == WeightStorage::Mapped && options.dtype != TorchDtype::Auto {
        "use `torch_dtype: auto`, which leaves the weights in the file; or free memory".to_owned()
    } else if options.dtype == TorchDtype::Float32 && elements * 2 <= available {
        format!("bfloat16 would fit in {}; or free memory", shown(elements * 2))
    } else {
        "free memory, or use a smaller model".to_owned()
    };
    Err(ModelLoadError::new(
        LoadErrorKind::OutOfMemory,
        place,
        format!("the weights need {}, and {} are free", shown(needed), shown(available)),
        help,
    ))
}
