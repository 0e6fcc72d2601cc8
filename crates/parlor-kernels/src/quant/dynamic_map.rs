//! The 8-bit data type of quantized moments: 256 values between -1 (or 0) and 1, denser towards 0, times a block's largest
//! magnitude.
//!
//! Source: `bitsandbytes.functional.create_dynamic_map` (Dettmers, 2015; Dettmers et al., 2022): seven decades down from
//! 1, each cut evenly, the lower ones into fewer parts. A number is stored as the nearest value, as in bitsandbytes' GPU
//! kernels.
//!
//! Both ways are arithmetic, since vector units read a table an element at a time: values lie further and further apart, so
//! the magnitude of a code is a convex function of it, the greatest of a few straight lines, and the number of midpoints below a
//! magnitude a concave one, the least of a few.

use std::sync::OnceLock;

/// Numbers that share a largest magnitude.
pub const DYNAMIC_MAP_BLOCK: usize = 256;
const DECADES: usize = 7;
/// Numbers that are computed side by side, for which the lines are read once.
const GROUP: usize = 64;
/// 1.5 * 2^23: a sum with it has no digits after the point, and its lowest bits are the rounded integer.
const INTEGERS: f32 = 12_582_912.0;

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
    /// The code of 0. That of a magnitude is further up by the number of midpoints below it, of a negative number further down.
    zero: u32,
    /// Lines whose greatest is a code's magnitude, by its distance to that of 0: one for each decade.
    rising: [StraightLine; DECADES],
    /// Lines whose least is `n + 0.5` at midpoint `n` and between two of those otherwise: for each decade one, and one before it.
    falling: [StraightLine; 2 * DECADES],
    /// The last midpoint, between the last decade and 1: it is closer to the one before than that is to its own.
    last: f32,
}

/// A straight line.
#[derive(Clone, Copy, Debug, Default)]
struct StraightLine {
    slope: f32,
    offset: f32,
}

impl StraightLine {
    /// The one of this slope through a point.
    fn through(x: f64, y: f64, slope: f64) -> Self {
        Self { slope: slope as f32, offset: (y - slope * x) as f32 }
    }

    #[inline(always)]
    fn at(self, x: f32) -> f32 {
        x.mul_add(self.slope, self.offset)
    }
}

impl DynamicMap {
    /// The map of this sign, made once.
    pub fn of(sign: Sign) -> &'static Self {
        static MAPS: [OnceLock<DynamicMap>; 2] = [OnceLock::new(), OnceLock::new()];
        MAPS[sign as usize].get_or_init(|| Self::new(sign))
    }

    fn new(sign: Sign) -> Self {
        let parts_of = |decade: usize| match sign {
            Sign::Signed => 1usize << decade,
            Sign::Unsigned => 2 << decade,
        };
        // The magnitudes, rising: 0, the middles of the parts of each decade, 1.
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
            // One part has no slope of its own; that from 0 will do.
            let (low, high) = if parts_of(decade) > 1 { (first, first + 1) } else { (first - 1, first) };
            rising[decade] =
                StraightLine::through(low as f64, magnitudes[low], magnitudes[high] - magnitudes[low]);
            // Through the midpoint below the decade, less steep than what is before it and steeper than what follows.
            let before = if first == 1 { 0.0 } else { middle(first - 2) };
            falling[2 * decade] = midpoint(first - 1, 2.0 / (middle(first) - before));
            // Through those within it, or from the one below to the one above.
            falling[2 * decade + 1] = midpoint(low, 1.0 / (middle(low + 1) - middle(low)));
        }
        let end = magnitudes.len() - 2;
        let mut values = [0.0; 256];
        let zero = if sign == Sign::Signed { end } else { 0 };
        // Signed: 127 below zero and 128 above; unsigned: 255 above.
        for (code, value) in values.iter_mut().enumerate() {
            let magnitude = magnitudes[code.abs_diff(zero)] as f32;
            *value = if code < zero { -magnitude } else { magnitude };
        }
        Self { values, zero: zero as u32, rising, falling, last: middle(end) as f32 }
    }

    /// The 256 values, rising.
    pub fn values(&self) -> &[f32; 256] {
        &self.values
    }

    /// The code of the value nearest to `x`, which is between -1 and 1: of two that are equally near but for 2^-15 of what is
    /// between them, either.
    pub fn nearest(&self, x: f32) -> u8 {
        let mut code = [0];
        self.nearest_of(&[x], 1.0, &mut code);
        code[0]
    }

    #[inline(always)]
    fn nearest_of<const N: usize>(&self, numbers: &[f32; N], scale: f32, codes: &mut [u8; N]) {
        let (mut scaled, mut least) = ([0.0; N], [f32::INFINITY; N]);
        for i in 0..N {
            scaled[i] = numbers[i] * scale;
        }
        for line in self.falling {
            for i in 0..N {
                let y = line.at(scaled[i].abs());
                // Not `f32::min`, whose care for NaN takes two instructions more.
                least[i] = if y < least[i] { y } else { least[i] };
            }
        }
        for i in 0..N {
            let below = (least[i] + INTEGERS).to_bits().wrapping_sub(INTEGERS.to_bits());
            let below = if scaled[i].abs() > self.last { 255 - self.zero } else { below };
            // -1 is not among the values: the largest magnitude below zero is one less.
            let down = if below < self.zero { below } else { self.zero };
            let code =
                if scaled[i] < 0.0 { self.zero.wrapping_sub(down) } else { self.zero.wrapping_add(below) };
            codes[i] = code as u8;
        }
    }

    /// The values of `codes` times `scale`, but for 2^-20 of each.
    #[inline(always)]
    fn values_of<const N: usize>(&self, codes: &[u8; N], scale: f32, numbers: &mut [f32; N]) {
        let (mut places, mut greatest) = ([0.0f32; N], [0.0; N]);
        for i in 0..N {
            places[i] = i32::from(codes[i]).wrapping_sub(self.zero as i32) as f32;
        }
        for line in self.rising {
            for i in 0..N {
                let y = line.at(places[i].abs());
                greatest[i] = if y > greatest[i] { y } else { greatest[i] };
            }
        }
        for i in 0..N {
            // The last step up is shorter than those before it.
            let magnitude = if greatest[i] < 1.0 { greatest[i] } else { 1.0 };
            numbers[i] = f32::from_bits(magnitude.to_bits() | places[i].to_bits() & 0x8000_0000) * scale;
        }
    }

    /// The values of `codes` times `scale`, but for 2^-20 of each.
    #[inline(always)]
    pub(crate) fn widen(&self, codes: &[u8], scale: f32, numbers: &mut [f32]) {
        let ((codes, codes_left), (numbers, numbers_left)) = (codes.as_chunks(), numbers.as_chunks_mut());
        for (numbers, codes) in numbers.iter_mut().zip(codes) {
            self.values_of::<GROUP>(codes, scale, numbers);
        }
        let (codes, numbers) = (codes_left.as_chunks().0, numbers_left.as_chunks_mut().0);
        for (numbers, codes) in numbers.iter_mut().zip(codes) {
            self.values_of::<1>(codes, scale, numbers);
        }
    }

    /// Stores `numbers` as `codes`; returns their largest magnitude.
    #[inline(always)]
    pub fn quantize(&self, numbers: &[f32], codes: &mut [u8]) -> f32 {
        let largest = max_of_magnitudes(numbers);
        let inverse = if largest > 0.0 { 1.0 / largest } else { 0.0 };
        let ((numbers, numbers_left), (codes, codes_left)) = (numbers.as_chunks(), codes.as_chunks_mut());
        for (codes, numbers) in codes.iter_mut().zip(numbers) {
            self.nearest_of::<GROUP>(numbers, inverse, codes);
        }
        let (numbers, codes) = (numbers_left.as_chunks().0, codes_left.as_chunks_mut().0);
        for (codes, numbers) in codes.iter_mut().zip(numbers) {
            self.nearest_of::<1>(numbers, inverse, codes);
        }
        largest
    }
}

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
