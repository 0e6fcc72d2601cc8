//! What this machine can do at most: bytes read and arithmetic done per second, with the threads that the operations use. Every
//! figure of a kernel is a share of one of these.
//!
//! Arithmetic is measured in registers alone, over as many independent sums as hide the latency; reading over memory in
//! huge pages, where there are any, that is larger than the caches. Each is the best of several rounds: what disturbs
//! a round makes it slower, never faster.

use std::hint::black_box;
use std::time::Instant;

#[cfg(target_arch = "x86_64")]
use crate::cpu::isa::{self, Isa};
use crate::parallel::threads::{self, Parts as _};

/// Operations and bytes per second, all threads together. A multiplication with its addition is two operations.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Limits {
    /// Bytes read from memory.
    pub read: f64,
    /// f32 multiply-add.
    pub f32: f64,
    /// Products of bf16 pairs, summed in f32; none where the processor has no instruction for them.
    pub bf16: Option<f64>,
    /// Products of four 8-bit integers, summed in 32 bits; likewise.
    pub int8: Option<f64>,
}

impl Limits {
    /// The higher of each, of two measurements: a machine that others share does less at times, never more.
    pub fn max(self, other: Self) -> Self {
        let max = |a: Option<f64>, b: Option<f64>| a.zip(b).map(|(a, b)| a.max(b)).or(a).or(b);
        Self {
            read: self.read.max(other.read),
            f32: self.f32.max(other.f32),
            bf16: max(self.bf16, other.bf16),
            int8: max(self.int8, other.int8),
        }
    }
}

/// Rounds of which the best counts.
const ROUNDS: usize = 5;
/// Steps of a round of arithmetic: some ten milliseconds.
const STEPS: usize = 1 << 20;
/// Sums that are independent of each other: multiply-add takes four cycles and two begin in each.
const SUMS: usize = 16;
/// Bytes that are asked for ahead of those in use.
const AHEAD: usize = 4096;

/// Measures for about a second, over `bytes` of memory.
///
/// # Errors
/// When there is no such memory.
pub fn measure(bytes: usize) -> std::io::Result<Limits> {
    Ok(Limits { read: read(bytes)?, f32: arithmetic(f32_sums()), bf16: bf16(), int8: int8() })
}

/// Seconds of processor time that the calling thread has had; of the clock where that cannot be told. For benchmarks.
pub fn thread_seconds() -> f64 {
    #[cfg(target_os = "linux")]
    {
        let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
        // SAFETY: the call fills the time it is given.
        if unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &raw mut time) } == 0 {
            return time.tv_sec as f64 + time.tv_nsec as f64 * 1e-9;
        }
    }
    static START: std::sync::OnceLock<Instant> = std::sync::OnceLock::new();
    START.get_or_init(Instant::now).elapsed().as_secs_f64()
}

/// Name of the processor, as it says itself; empty where it does not.
pub fn processor() -> String {
    #[cfg(target_arch = "x86_64")]
    {
        let leaf = |leaf| std::arch::x86_64::__cpuid(leaf);
        if leaf(0x8000_0000).eax >= 0x8000_0004 {
            let parts = (0x8000_0002..=0x8000_0004).map(leaf);
            let bytes = parts.flat_map(|r| [r.eax, r.ebx, r.ecx, r.edx]).flat_map(u32::to_le_bytes);
            let text: Vec<u8> = bytes.take_while(|&byte| byte != 0).collect();
            return String::from_utf8_lossy(&text).trim().to_owned();
        }
    }
    String::new()
}

/// One way to do arithmetic: the operations of a step, and the steps.
struct Sums {
    operations: usize,
    run: fn(usize),
}

/// Operations per second on all threads.
fn arithmetic(sums: Sums) -> f64 {
    let threads = threads::count();
    let best = (0..ROUNDS).map(|_| {
        let start = Instant::now();
        threads::share(threads, |_| (sums.run)(STEPS));
        start.elapsed().as_secs_f64()
    });
    let best = best.fold(f64::INFINITY, f64::min);
    (threads * STEPS * sums.operations) as f64 / best
}

fn f32_sums() -> Sums {
    #[cfg(target_arch = "x86_64")]
    {
        if isa::allows(Isa::Avx512) {
            // SAFETY: the instruction set is there.
            return Sums { operations: SUMS * 32, run: |steps| unsafe { x86::f32_512(steps) } };
        }
        if isa::allows(Isa::Avx2) {
            // SAFETY: the instruction set is there.
            return Sums { operations: x86::SUMS_256 * 16, run: |steps| unsafe { x86::f32_256(steps) } };
        }
    }
    Sums { operations: SUMS * 8, run: portable }
}

fn bf16() -> Option<f64> {
    #[cfg(target_arch = "x86_64")]
    if isa::bf16() {
        // SAFETY: the instruction set is there.
        let run = |steps| unsafe { x86::bf16_512(steps) };
        return Some(arithmetic(Sums { operations: SUMS * 64, run }));
    }
    None
}

fn int8() -> Option<f64> {
    #[cfg(target_arch = "x86_64")]
    if isa::int8() {
        // SAFETY: the instruction set is there.
        let run = |steps| unsafe { x86::int8_512(steps) };
        return Some(arithmetic(Sums { operations: SUMS * 128, run }));
    }
    None
}

/// Sums of four lanes, which any processor with registers of 128 bits has.
fn portable(steps: usize) {
    let mut sums = [[0.0f32; 4]; SUMS];
    let (a, b) = (black_box([1.0f32; 4]), black_box([1e-9f32; 4]));
    for _ in 0..steps {
        for sum in &mut sums {
            for lane in 0..4 {
                sum[lane] += a[lane] * b[lane];
            }
        }
        sums = black_box(sums);
    }
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::x86_64::*;
    use std::hint::black_box;

    use super::SUMS;

    /// With the operands these are all 16 registers.
    pub(super) const SUMS_256: usize = 12;

    #[target_feature(enable = "avx512f")]
    pub(super) fn f32_512(steps: usize) {
        let (a, b) = (_mm512_set1_ps(black_box(1.0)), _mm512_set1_ps(black_box(1e-9)));
        let mut sums = [_mm512_setzero_ps(); SUMS];
        for _ in 0..steps {
            for sum in &mut sums {
                *sum = _mm512_fmadd_ps(a, b, *sum);
            }
        }
        black_box(sums);
    }

    #[target_feature(enable = "avx2,fma")]
    pub(super) fn f32_256(steps: usize) {
        let (a, b) = (_mm256_set1_ps(black_box(1.0)), _mm256_set1_ps(black_box(1e-9)));
        let mut sums = [_mm256_setzero_ps(); SUMS_256];
        for _ in 0..steps {
            for sum in &mut sums {
                *sum = _mm256_fmadd_ps(a, b, *sum);
            }
        }
        black_box(sums);
    }

    #[target_feature(enable = "avx512f,avx512bf16")]
    pub(super) fn bf16_512(steps: usize) {
        let pair = |x: f32| _mm512_cvtne2ps_pbh(_mm512_set1_ps(x), _mm512_set1_ps(x));
        let (a, b) = (pair(black_box(1.0)), pair(black_box(1e-9)));
        let mut sums = [_mm512_setzero_ps(); SUMS];
        for _ in 0..steps {
            for sum in &mut sums {
                *sum = _mm512_dpbf16_ps(*sum, a, b);
            }
        }
        black_box(sums);
    }

    #[target_feature(enable = "avx512f,avx512vnni")]
    pub(super) fn int8_512(steps: usize) {
        let (a, b) = (_mm512_set1_epi8(black_box(1)), _mm512_set1_epi8(black_box(-1)));
        let mut sums = [_mm512_setzero_si512(); SUMS];
        for _ in 0..steps {
            for sum in &mut sums {
                *sum = _mm512_dpbusd_epi32(*sum, a, b);
            }
        }
        black_box(sums);
    }
}

/// Bytes per second that all threads read together.
fn read(bytes: usize) -> std::io::Result<f64> {
    let mut map = memmap2::MmapMut::map_anon(bytes.max(1 << 20))?;
    // Advice that is not taken costs speed only, and then that is what this machine does.
    #[cfg(target_os = "linux")]
    let _ = map.advise(memmap2::Advice::HugePage);
    map.chunks_mut(1 << 21).share(|part| part.fill(1));
    let words: &[u64] = bytemuck::cast_slice(&map);
    // Parts as large as a matrix of a model: where one ends the processor's look-ahead begins anew.
    let part = 1 << 17;
    let best = (0..ROUNDS).map(|_| {
        let start = Instant::now();
        black_box(words.chunks(part).gather(sum));
        start.elapsed().as_secs_f64()
    });
    Ok(map.len() as f64 / best.fold(f64::INFINITY, f64::min))
}

/// The sum of `words`, over lanes that do not wait for each other, with what follows asked for ahead: the processor alone
/// keeps too few reads under way.
fn sum(words: &[u64]) -> u64 {
    crate::cpu::simd::dispatch(
        #[inline(always)]
        || {
            let mut lanes = [0u64; 32];
            for chunk in words.chunks_exact(32) {
                for line in 0..4 {
                    prefetch(chunk.as_ptr().wrapping_add(AHEAD / 8 + 8 * line));
                }
                for (lane, word) in lanes.iter_mut().zip(chunk) {
                    *lane = lane.wrapping_add(*word);
                }
            }
            lanes.iter().fold(0u64, |sum, lane| sum.wrapping_add(*lane))
        },
    )
}

/// Asks for the line at `at`, which need not be there.
#[inline(always)]
fn prefetch(at: *const u64) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: every x86-64 processor has it, and it reads nothing that the program sees.
    unsafe {
        std::arch::x86_64::_mm_prefetch::<{ std::arch::x86_64::_MM_HINT_T0 }>(at.cast());
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = at;
}
