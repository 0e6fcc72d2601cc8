//! Merges an adapter into the weights: `W + scale B A`, and for DoRA each row scaled to its magnitude.
//! Replacements take the place of the model's parameters. The result has no adapter, and the same outputs.

use parlor_kernels::linear::{self, Shape};
use parlor_kernels::lora;
use parlor_kernels::{Arithmetic, Tensor, View, Write};

use crate::config::Head;
use crate::decoder::{
    Adapter, AdapterId, Decoder, DecoderError, LowRank, Owner, Parameter, ParameterId, ParameterSpec, Role,
    Site,
};

/// A decoder without adapters whose weights are `decoder`'s with adapter `id` merged into them, in their
/// dtypes, or in bf16 where they are quantized. An adapter that replaces the head or the embedding of a tied
/// model unties them.
///
/// # Errors
/// [`DecoderError::Batch`] when there is no such adapter.
pub fn merge(decoder: &Decoder, id: AdapterId) -> Result<Decoder, DecoderError> {
    let attached = decoder.adapters().len();
    let adapter = decoder
        .adapters()
        .get(id)
        .ok_or_else(|| DecoderError::Batch(format!("there is no adapter {id}: {attached} are attached")))?;
    let mut config = decoder.config().clone();
    let mut parameters = Vec::with_capacity(decoder.model_parameters().len() + 1);
    for (index, parameter) in decoder.model_parameters().iter().enumerate() {
        let source = &decoder.parameters()[adapter.resolved.get(index).copied().unwrap_or(index)].tensor;
        let dtype = parameter.tensor.dtype().plain();
        let tensor = match parameter.spec.role {
            Role::Head => decoder.parameters()[adapter.head].tensor.to_dtype(dtype),
            Role::Block { layer, site, .. } => match weight_of(decoder, adapter, layer, site, index) {
                Some(at) => merged(decoder, source, at, &parameter.spec)?.to_dtype(dtype),
                None => source.to_dtype(dtype),
            },
            _ => source.to_dtype(dtype),
        };
        parameters.push(Parameter { spec: parameter.spec.clone(), tensor });
    }
    let embedding = adapter.resolved.get(decoder.embedding).copied().unwrap_or(decoder.embedding);
    if config.head == Head::Tied && adapter.head != embedding {
        config.head = Head::Separate;
        let source = &decoder.parameters()[decoder.embedding];
        let spec = ParameterSpec { role: Role::Head, owner: Owner::Model, ..source.spec.clone() };
        let tensor = decoder.parameters()[adapter.head].tensor.to_dtype(source.tensor.dtype().plain());
        parameters.push(Parameter { spec, tensor });
    }
    Decoder::new(config, parameters)
}

/// The low-rank update of parameter `index`, when it is the weight of an adapted layer.
fn weight_of<'a>(
    decoder: &Decoder,
    adapter: &'a Adapter,
    layer: usize,
    site: Site,
    index: ParameterId,
) -> Option<&'a LowRank> {
    let linear = decoder.linear(layer, site).filter(|linear| linear.weight == index)?;
    adapter.low_rank(linear.layer, linear.site)
}

fn merged(
    decoder: &Decoder,
    weight: &Tensor,
    at: &LowRank,
    spec: &ParameterSpec,
) -> Result<Tensor, DecoderError> {
    let (outputs, inputs) = (spec.shape[0], spec.shape[1]);
    let mut values = weight.to_f32_vec();
    let mut b = decoder.vector(at.b)[at.b_range()].to_vec();
    lora::scale(&mut b, at.scale);
    let shape = Shape { rows: outputs, inputs, outputs: at.rank, arithmetic: Arithmetic::F32 };
    linear::backward_input(&b, View::F32(decoder.vector(at.a)), &mut values, Write::Accumulate, shape);
    if let Some(magnitude) = at.magnitude {
        let mut norms = vec![0.0; outputs];
        lora::row_norms(View::F32(&values), &[], &[], 0.0, &mut norms);
        let magnitudes = &decoder.vector(magnitude)[at.rows.clone()];
        for ((row, magnitude), norm) in values.chunks_exact_mut(inputs).zip(magnitudes).zip(&norms) {
            lora::scale(row, magnitude / norm);
        }
    }
    let tensor =
        Tensor::from_f32(&spec.shape, values).map_err(|error| DecoderError::Batch(error.to_string()))?;
    Ok(tensor)
}
