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
    /// The nearest value of the smallest number of each bucket of non-negative numbers; from the middle on, that of the number
    /// nearest 0 of each bucket of negative ones.
    starts: Box<[u8; 2 * ROOM]>,
}

/// Room for the buckets of one sign, so that a place needs no check.
const ROOM: usize = 1 << 12;

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
        // The last bucket begins at 1: a rounding may take the largest number there, and a little further.
        let buckets = place(1.0) + 1;
        let nearest = |x: f32| midpoints.partition_point(|&midpoint| midpoint < x) as u8;
        let start = |index: usize| {
            f32::from_bits((index as u32 + (LOWEST_EXPONENT << BUCKET_BITS)) << (23 - BUCKET_BITS))
        };
        let low = |index: usize| if index == 0 { 0.0 } else { start(index) };
        let mut starts = Box::new([0; 2 * ROOM]);
        for index in 0..buckets.min(ROOM) {
            starts[index] = nearest(low(index));
            // Downwards from 0 the numbers of a bucket end where the next one begins.
            starts[ROOM + index] = nearest(-start(index + 1));
        }
        Self { values, midpoints, starts }
    }

    /// The 256 values, rising.
    pub fn values(&self) -> &[f32; 256] {
        &self.values
    }

    /// The code of the value nearest to `x`, which is between -1 and 1.
    #[inline(always)]
    pub fn nearest(&self, x: f32) -> u8 {
        self.nearest_at(x, place(x))
    }

    #[inline(always)]
    fn nearest_at(&self, x: f32, place: usize) -> u8 {
        let code = self.starts[place % (2 * ROOM)];
        // Without a branch, which would be mispredicted every other time.
        code + u8::from(x > self.midpoints[code as usize])
    }

    /// The values of `codes` times their block's largest magnitude.
    #[inline(always)]
    pub fn widen(&self, codes: &[u8], largest: f32, numbers: &mut [f32]) {
        for (number, code) in numbers.iter_mut().zip(codes) {
            *number = self.values[*code as usize];
        }
        for number in numbers {
            *number *= largest;
        }
    }

    /// Stores `numbers`, at most [`BLOCK`], as `codes`; returns their largest magnitude.
    #[inline(always)]
    pub fn quantize(&self, numbers: &[f32], codes: &mut [u8]) -> f32 {
        let largest = max_of_magnitudes(numbers);
        let inverse = if largest > 0.0 { 1.0 / largest } else { 0.0 };
        // What vector units do, then what they cannot.
        let (mut scaled, mut places) = ([0.0f32; BLOCK], [0u16; BLOCK]);
        for ((scaled, place_of), x) in scaled.iter_mut().zip(&mut places).zip(numbers) {
            *scaled = x * inverse;
            *place_of = place(*scaled) as u16;
        }
        for ((code, x), place) in codes.iter_mut().zip(&scaled).zip(&places) {
            *code = self.nearest_at(*x, usize::from(*place));
        }
        largest
    }
}

/// Where the bucket of a number is among those of both signs.
#[inline(always)]
fn place(x: f32) -> usize {
    let magnitude = (x.to_bits() & 0x7FFF_FFFF) >> (23 - BUCKET_BITS);
    let bucket = magnitude.saturating_sub(LOWEST_EXPONENT << BUCKET_BITS).min(ROOM as u32 - 1);
    let negative = x.to_bits() >> 31;
    (bucket + negative * ROOM as u32) as usize
}

#[inline(always)]
fn max_of_magnitudes(numbers: &[f32]) -> f32 {
    let mut lanes = [0.0f32; 16];
    let (whole, rest) = numbers.as_chunks::<16>();
    for chunk in whole {
        for (lane, x) in lanes.iter_mut().zip(chunk) {
            *lane = lane.max(x.abs());
        }
    }
    rest.iter().chain(&lanes).fold(0.0f32, |largest, x| largest.max(x.abs()))
}
