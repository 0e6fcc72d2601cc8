//! Gradient norms: the clipping factor, and norms by parameter group for the message about a non-finite step.
//!
//! Source: `torch.nn.utils.clip_grad_norm_`. Sums are f64 in a fixed order, so they repeat bit for bit.

use parlor_model::{Decoder, Gradients};

/// Factor that scales a gradient of global norm `norm` down to at most `max_norm`; 1 when `max_norm` is 0.
pub(super) fn clip_factor(norm: f64, max_norm: f64) -> f64 {
    if max_norm > 0.0 { (max_norm / (norm + 1e-6)).min(1.0) } else { 1.0 }
}

/// The norm of each parameter group (`embed_tokens`, `layers.0`, ..., `norm`, `lm_head`), each multiplied by
/// `scale`, in the order of the parameters.
pub(super) fn group_norms(decoder: &Decoder, gradients: &Gradients, scale: f64) -> Vec<(String, f64)> {
    let mut groups: Vec<(String, f64)> = Vec::new();
    for (id, parameter) in decoder.parameters().iter().enumerate() {
        if !decoder.is_trained(id) {
            continue;
        }
        let name = parameter.spec.role.to_string();
        let parts = if name.starts_with("layers.") { 2 } else { 1 };
        let group = name.split('.').take(parts).collect::<Vec<_>>().join(".");
        let square = gradients.norm(id).powi(2);
        match groups.iter_mut().find(|(known, _)| *known == group) {
            Some((_, sum)) => *sum += square,
            None => groups.push((group, square)),
        }
    }
    for (_, value) in &mut groups {
        *value = value.sqrt() * scale;
    }
    groups
}
