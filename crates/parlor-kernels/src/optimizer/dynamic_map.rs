//! The 8-bit data type of quantized moments: 256 values between -1 (or 0) and 1, denser towards 0, times a block's largest
//! magnitude.
//!
//! Source: `bitsandbytes.functional.create_dynamic_map` (Dettmers, 2015; Dettmers et al., 2022): seven decades down from
//! 1, each cut evenly, the lower ones into fewer parts. A number is stored as the nearest value, as in bitsandbytes' GPU
//! kernels.

use std::sync::OnceLock;

/// Numbers that share a largest magnitude.
pub const BLOCK: usize = 256;
const DECADES: i32 = 7;
/// Bits of the mantissa that choose a bucket. No bucket is then wider than 2^-8, and midpoints near 1 are 0.9 / 128
/// apart: no bucket holds two.
const BUCKET_BITS: u32 = 7;
/// The smallest exponent with buckets of its own, 2^-24; the midpoints next to 0 are larger.
const LOWEST_EXPONENT: u32 = 127 - 24;

/// Which numbers a map has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sign {
    /// Both signs: first moments.
    Signed,
    /// Zero and above: second moments.
    Unsigned,
}

/// The values, and how to find the nearest one.
#[derive(Debug)]
pub struct DynamicMap {
    values: [f32; 256],
    /// Halfway between each value and the next; infinity after the last.
    midpoints: [f32; 256],
    /// The nearest value of the smallest number of each bucket of non-negative numbers; then that of the number nearest
    /// 0 of each bucket of negative ones.
    starts: Vec<u8>,
    /// Buckets of one sign.
    buckets: usize,
}

impl DynamicMap {
    /// The map of this sign, made once.
    pub fn of(sign: Sign) -> &'static Self {
        static MAPS: [OnceLock<DynamicMap>; 2] = [OnceLock::new(), OnceLock::new()];
        MAPS[sign as usize].get_or_init(|| Self::new(sign))
    }

    fn new(sign: Sign) -> Self {
        let mut list = vec![0.0f32, 1.0];
        for decade in 0..DECADES {
            let parts = match sign {
                Sign::Signed => 1 << decade,
                Sign::Unsigned => 2 << decade,
            };
            let top = 10f64.powi(decade - DECADES + 1);
            let boundary = |n: i32| 0.1 + 0.9 * f64::from(n) / f64::from(parts);
            for n in 0..parts {
                let value = (top * 0.5 * (boundary(n) + boundary(n + 1))) as f32;
                list.push(value);
                if sign == Sign::Signed {
                    list.push(-value);
                }
            }
        }
        list.sort_by(f32::total_cmp);
        let (mut values, mut midpoints) = ([0.0; 256], [f32::INFINITY; 256]);
        // 2 values and, of either sign, 2^7 - 1 in all or 2^8 - 2: the signed list has 256, and so has the other.
        for (value, listed) in values.iter_mut().zip(&list) {
            *value = *listed;
        }
        for n in 0..255 {
            midpoints[n] = 0.5 * (values[n] + values[n + 1]);
        }
        // The last bucket begins at 1: a rounding may take the largest number there.
        let buckets = bucket(1.0) + 1;
        let nearest = |x: f32| midpoints.partition_point(|&midpoint| midpoint < x) as u8;
        let start = |index: usize| {
            f32::from_bits((index as u32 + (LOWEST_EXPONENT << BUCKET_BITS)) << (23 - BUCKET_BITS))
        };
        let low = |index: usize| if index == 0 { 0.0 } else { start(index) };
        let starts = (0..buckets)
            .map(|index| nearest(low(index)))
            // Downwards from 0 the numbers of a bucket end where the next one begins.
            .chain((0..buckets).map(|index| nearest(-start(index + 1))))
            .collect();
        Self { values, midpoints, starts, buckets }
    }

    /// The 256 values, rising.
    pub fn values(&self) -> &[f32; 256] {
        &self.values
    }

    /// The code of the value nearest to `x`, which is between -1 and 1.
    #[inline(always)]
    pub fn nearest(&self, x: f32) -> u8 {
        let index = bucket(x.abs()).min(self.buckets - 1);
        let code = self.starts[if x < 0.0 { index + self.buckets } else { index }];
        // Without a branch, which would be mispredicted every other time.
        code + u8::from(x > self.midpoints[code as usize])
    }

    /// Stores `numbers`, at most [`BLOCK`], as `codes`; returns their largest magnitude.
    #[inline(always)]
    pub fn quantize(&self, numbers: &[f32], codes: &mut [u8]) -> f32 {
        let largest = numbers.iter().fold(0.0f32, |largest, x| largest.max(x.abs()));
        let inverse = if largest > 0.0 { 1.0 / largest } else { 0.0 };
        for (code, x) in codes.iter_mut().zip(numbers) {
            *code = self.nearest((x * inverse).clamp(-1.0, 1.0));
        }
        largest
    }
}

/// Which bucket a magnitude falls in.
#[inline(always)]
fn bucket(magnitude: f32) -> usize {
    (magnitude.to_bits() >> (23 - BUCKET_BITS)).saturating_sub(LOWEST_EXPONENT << BUCKET_BITS) as usize
}
