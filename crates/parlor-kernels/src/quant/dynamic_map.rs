//! The dynamic map, an 8-bit data type for optimizer moments and for the scales of NF4: 256 values between -1 (or 0) and 1,
//! denser towards 0, times the largest magnitude of a block.
//!
//! Source: `bitsandbytes.functional.create_dynamic_map` (Dettmers, 2015; Dettmers et al., 2022): seven decades down from
//! 1, each divided evenly, the lower ones into fewer parts. A number is quantized to the nearest value, as in
//! bitsandbytes' GPU kernels.
//!
//! Both directions are computed instead of looked up, because a vector unit gathers from a table one element at a time.
//! The values are further apart the larger they are. So the magnitude is a convex function of the quant: the maximum of a
//! few straight lines. And the number of midpoints below a magnitude is a concave function of it: the minimum of a few.

use std::sync::OnceLock;

/// Numbers that share a largest magnitude.
pub const DYNAMIC_MAP_BLOCK: usize = 256;
const DECADES: usize = 7;
/// Numbers that are computed together, so that each line's coefficients are loaded once for them.
const GROUP: usize = 64;
/// 1.5 * 2^23: adding it rounds to an integer, which then is in the lowest bits of the sum.
const ROUND_TO_INTEGER: f32 = 12_582_912.0;

/// Whether a map has negative values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sign {
    /// Both signs: first moments.
    Signed,
    /// Zero and above: second moments.
    Unsigned,
}

/// The values, and the lines that quantize and dequantize.
#[derive(Debug)]
pub struct DynamicMap {
    values: [f32; 256],
    /// The quant of 0. The quant of a number is as far above it (below it, for a negative number) as there are midpoints
    /// below its magnitude.
    zero: u32,
    /// Lines whose maximum is the magnitude of a quant, by its distance from `zero`: one for each decade.
    rising: [StraightLine; DECADES],
    /// Lines whose minimum is `n + 0.5` at midpoint `n`, and in between elsewhere: for each decade one within it and one
    /// below it.
    falling: [StraightLine; 2 * DECADES],
    /// The midpoint between the last decade and 1, which no line covers: the step up to 1 is shorter than the one before.
    last: f32,
}

/// A straight line.
#[derive(Clone, Copy, Debug, Default)]
struct StraightLine {
    slope: f32,
    offset: f32,
}

impl StraightLine {
    /// The line with slope `slope` through `(x, y)`.
    fn through(x: f64, y: f64, slope: f64) -> Self {
        Self { slope: slope as f32, offset: (y - slope * x) as f32 }
    }

    #[inline(always)]
    fn at(self, x: f32) -> f32 {
        x.mul_add(self.slope, self.offset)
    }
}

impl DynamicMap {
    /// The map, computed once.
    pub fn of(sign: Sign) -> &'static Self {
        static MAPS: [OnceLock<DynamicMap>; 2] = [OnceLock::new(), OnceLock::new()];
        MAPS[sign as usize].get_or_init(|| Self::new(sign))
    }

    fn new(sign: Sign) -> Self {
        let parts_of = |decade: usize| match sign {
            Sign::Signed => 1usize << decade,
            Sign::Unsigned => 2 << decade,
        };
        // The magnitudes, ascending: 0, the middles of the parts of each decade, 1.
        let mut magnitudes = vec![0.0];
        let mut firsts = [0; DECADES];
        for (decade, first) in firsts.iter_mut().enumerate() {
            let (parts, top) = (parts_of(decade), 10f64.powi(decade as i32 + 1 - DECADES as i32));
            let boundary = |n: usize| 0.1 + 0.9 * n as f64 / parts as f64;
            *first = magnitudes.len();
            magnitudes.extend((0..parts).map(|n| top * 0.5 * (boundary(n) + boundary(n + 1))));
        }
        magnitudes.push(1.0);
        let middle = |n: usize| 0.5 * (magnitudes[n] + magnitudes[n + 1]);
        let midpoint = |n: usize, slope: f64| StraightLine::through(middle(n), n as f64 + 0.5, slope);
        let (mut rising, mut falling) =
            ([StraightLine::default(); DECADES], [StraightLine::default(); 2 * DECADES]);
        for (decade, &first) in firsts.iter().enumerate() {
            // A decade of one part has no slope of its own; the slope from 0 serves.
            let (low, high) = if parts_of(decade) > 1 { (first, first + 1) } else { (first - 1, first) };
            rising[decade] =
                StraightLine::through(low as f64, magnitudes[low], magnitudes[high] - magnitudes[low]);
            // Through the midpoint below the decade, with a slope between those on either side.
            let before = if first == 1 { 0.0 } else { middle(first - 2) };
            falling[2 * decade] = midpoint(first - 1, 2.0 / (middle(first) - before));
            // Through the midpoints within the decade, or from the one below to the one above.
            falling[2 * decade + 1] = midpoint(low, 1.0 / (middle(low + 1) - middle(low)));
        }
        let end = magnitudes.len() - 2;
        let mut values = [0.0; 256];
        let zero = if sign == Sign::Signed { end } else { 0 };
        // Signed: 127 below zero and 128 above; unsigned: 255 above.
        for (quant, value) in values.iter_mut().enumerate() {
            let magnitude = magnitudes[quant.abs_diff(zero)] as f32;
            *value = if quant < zero { -magnitude } else { magnitude };
        }
        Self { values, zero: zero as u32, rising, falling, last: middle(end) as f32 }
    }

    /// The 256 values, ascending.
    pub fn values(&self) -> &[f32; 256] {
        &self.values
    }

    /// The quants nearest to `numbers` times `scale`.
    #[inline(always)]
    fn quantize_group<const N: usize>(&self, numbers: &[f32; N], scale: f32, quants: &mut [u8; N]) {
        let (mut scaled, mut least) = ([0.0; N], [f32::INFINITY; N]);
        for i in 0..N {
            scaled[i] = numbers[i] * scale;
        }
        for line in self.falling {
            for i in 0..N {
                let y = line.at(scaled[i].abs());
                // Not `f32::min`, which takes two more instructions for NaN.
                least[i] = if y < least[i] { y } else { least[i] };
            }
        }
        for i in 0..N {
            let below = (least[i] + ROUND_TO_INTEGER).to_bits().wrapping_sub(ROUND_TO_INTEGER.to_bits());
            let below = if scaled[i].abs() > self.last { 255 - self.zero } else { below };
            // There is no -1: the negative side has one value less.
            let down = if below < self.zero { below } else { self.zero };
            let quant =
                if scaled[i] < 0.0 { self.zero.wrapping_sub(down) } else { self.zero.wrapping_add(below) };
            quants[i] = quant as u8;
        }
    }

    /// The values of `quants` times `scale`, with a relative error of up to 2^-20.
    #[inline(always)]
    fn widen_group<const N: usize>(&self, quants: &[u8; N], scale: f32, numbers: &mut [f32; N]) {
        let (mut offsets, mut greatest) = ([0.0f32; N], [0.0; N]);
        for i in 0..N {
            offsets[i] = i32::from(quants[i]).wrapping_sub(self.zero as i32) as f32;
        }
        for line in self.rising {
            for i in 0..N {
                let y = line.at(offsets[i].abs());
                greatest[i] = if y > greatest[i] { y } else { greatest[i] };
            }
        }
        for i in 0..N {
            // The last step, up to 1, is shorter than the one before.
            let magnitude = if greatest[i] < 1.0 { greatest[i] } else { 1.0 };
            numbers[i] = f32::from_bits(magnitude.to_bits() | offsets[i].to_bits() & 0x8000_0000) * scale;
        }
    }

    /// The values of `quants` times `scale`, with a relative error of up to 2^-20.
    #[inline(always)]
    pub(crate) fn widen(&self, quants: &[u8], scale: f32, numbers: &mut [f32]) {
        let ((quants, quants_left), (numbers, numbers_left)) = (quants.as_chunks(), numbers.as_chunks_mut());
        for (numbers, quants) in numbers.iter_mut().zip(quants) {
            self.widen_group::<GROUP>(quants, scale, numbers);
        }
        let (quants, numbers) = (quants_left.as_chunks().0, numbers_left.as_chunks_mut().0);
        for (numbers, quants) in numbers.iter_mut().zip(quants) {
            self.widen_group::<1>(quants, scale, numbers);
        }
    }

    /// Quantizes `numbers` to the nearest values and returns their largest magnitude, the scale of the block. Where the
    /// distances to two values differ by less than 2^-15 of the gap between them, either is chosen.
    #[inline(always)]
    pub fn quantize(&self, numbers: &[f32], quants: &mut [u8]) -> f32 {
        let largest = max_of_magnitudes(numbers);
        let inverse = if largest > 0.0 { 1.0 / largest } else { 0.0 };
        let ((numbers, numbers_left), (quants, quants_left)) = (numbers.as_chunks(), quants.as_chunks_mut());
        for (quants, numbers) in quants.iter_mut().zip(numbers) {
            self.quantize_group::<GROUP>(numbers, inverse, quants);
        }
        let (numbers, quants) = (numbers_left.as_chunks().0, quants_left.as_chunks_mut().0);
        for (quants, numbers) in quants.iter_mut().zip(numbers) {
            self.quantize_group::<1>(numbers, inverse, quants);
        }
        largest
    }
}

/// The largest magnitude of `numbers`; 0 if there are none.
#[inline(always)]
fn max_of_magnitudes(numbers: &[f32]) -> f32 {
    let mut lanes = [0.0f32; 16];
    let (whole, rest) = numbers.as_chunks::<16>();
    for chunk in whole {
        for (lane, x) in lanes.iter_mut().zip(chunk) {
            *lane = if x.abs() > *lane { x.abs() } else { *lane };
        }
    }
    rest.iter().chain(&lanes).fold(0.0f32, |largest, x| largest.max(x.abs()))
}
