//! Decoders whose weights are not in memory: meta models, which have shapes alone, and mapped files; and how
//! weights get into memory.

use std::sync::Arc;

use parlor_kernels::{DType, MappedFile, Tensor};

use super::error::DecoderError;
use super::network::Decoder;
use super::parameters::{Kind, Parameter, ParameterSpec, parameter_specs};
use crate::config::DecoderConfig;

impl Decoder {
    /// A meta model: a decoder of zeros that take no memory, for planning a run.
    ///
    /// # Errors
    /// When the configuration is inconsistent.
    pub fn meta(config: DecoderConfig) -> Result<Self, DecoderError> {
        let problems = config.problems();
        if !problems.is_empty() {
            return Err(DecoderError::Config(problems));
        }
        let specs = parameter_specs(&config);
        let largest = specs.iter().map(|spec| spec.len() * size_of::<f32>()).max().unwrap_or(0);
        let failed = |error: String| DecoderError::Config(vec![error]);
        // All parameters share the same zeros.
        let zeros = Arc::new(MappedFile::zeros(largest).map_err(|error| failed(error.to_string()))?);
        let parameter = |spec: ParameterSpec| {
            let bytes = 0..spec.len() * size_of::<f32>();
            let tensor = Tensor::mapped(&zeros, bytes, &spec.shape, DType::F32)
                .map_err(|error| failed(error.to_string()))?;
            Ok(Parameter { spec, tensor })
        };
        let parameters = specs.into_iter().map(parameter).collect::<Result<Vec<_>, DecoderError>>()?;
        Self::new(config, parameters)
    }

    /// The decoder with every parameter in memory of its own, as training needs it: matrices in `dtype`, norm
    /// weights and biases in f32. Releases the pages of each mapped tensor once it is copied.
    pub fn into_owned(mut self, dtype: DType) -> Self {
        for Parameter { spec, tensor } in &mut self.parameters {
            let dtype = if spec.kind == Kind::Matrix { dtype } else { DType::F32 };
            if tensor.values_mut().is_none() || tensor.dtype() != dtype {
                let owned = tensor.to_dtype(dtype);
                tensor.release();
                *tensor = owned;
            }
        }
        self
    }

    /// Releases the resident pages of mapped weights; they are read again when they are needed.
    pub fn release(&self) {
        self.parameters.iter().for_each(|parameter| parameter.tensor.release());
    }
}
