//! The machine's roofline: bytes read and operations computed per second, at most, by the threads of the pool. Kernels
//! are measured as a share of these.
//!
//! Arithmetic is measured in registers alone, with enough independent accumulators to hide the latency. Reading is
//! measured over memory larger than the caches, in huge pages where the system grants them. Each figure is the best of
//! several rounds: a disturbance makes a round slower, never faster.

use std::hint::black_box;
use std::time::Instant;

#[cfg(target_arch = "x86_64")]
use super::isa::{self, Isa};
use super::simd::dispatch;
use crate::parallel::{ParallelExt as _, threads};

/// Peak rates per second, all threads together. A multiply-add is two operations.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Roofline {
    /// Bytes read from memory.
    pub read: f64,
    /// f32 operations.
    pub f32: f64,
    /// bf16 operations with f32 accumulators; `None` where the processor has no instruction for them.
    pub bf16: Option<f64>,
    /// int8 operations with 32-bit accumulators; likewise.
    pub int8: Option<f64>,
}

impl Roofline {
    /// The higher figure of each of two measurements: other load on a machine only ever lowers them.
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

/// Rounds of a measurement, of which the best counts.
const ROUNDS: usize = 5;
/// Steps of a round of arithmetic: about ten milliseconds.
const STEPS: usize = 1 << 20;
/// Independent accumulators: a multiply-add takes four cycles and two start per cycle, so at least eight.
const ACCUMULATORS: usize = 16;
/// Distance of the prefetch ahead of the read.
const PREFETCH_BYTES: usize = 4096;

/// Measures for about a second, over `bytes` of memory.
///
/// # Errors
/// The system's error when the memory cannot be allocated.
pub fn measure(bytes: usize) -> std::io::Result<Roofline> {
    Ok(Roofline { read: read(bytes)?, f32: arithmetic(f32_loop()), bf16: bf16(), int8: int8() })
}

/// Processor time of the calling thread in seconds, for benchmarks; wall time where the system does not report it.
pub fn thread_cpu_seconds() -> f64 {
    #[cfg(target_os = "linux")]
    {
        let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
        // SAFETY: the call writes only to `time`.
        if unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &raw mut time) } == 0 {
            return time.tv_sec as f64 + time.tv_nsec as f64 * 1e-9;
        }
    }
    static START: std::sync::OnceLock<Instant> = std::sync::OnceLock::new();
    START.get_or_init(Instant::now).elapsed().as_secs_f64()
}

/// The processor's name from `cpuid`; empty where there is none.
pub fn processor_name() -> String {
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

/// A loop of one kind of arithmetic.
struct ArithmeticLoop {
    operations_per_step: usize,
    /// Runs so many steps.
    run: fn(usize),
}

/// Operations per second of `kernel` on all threads.
fn arithmetic(kernel: ArithmeticLoop) -> f64 {
    let threads = threads::count();
    let best = (0..ROUNDS).map(|_| {
        let start = Instant::now();
        threads::parallel_for(threads, |_| (kernel.run)(STEPS));
        start.elapsed().as_secs_f64()
    });
    let best = best.fold(f64::INFINITY, f64::min);
    (threads * STEPS * kernel.operations_per_step) as f64 / best
}

fn f32_loop() -> ArithmeticLoop {
    #[cfg(target_arch = "x86_64")]
    {
        if isa::allows(Isa::Avx512) {
            // SAFETY: the instruction set was detected.
            let run = |steps| unsafe { x86::f32_512(steps) };
            return ArithmeticLoop { operations_per_step: ACCUMULATORS * 32, run };
        }
        if isa::allows(Isa::Avx2) {
            // SAFETY: the instruction set was detected.
            let run = |steps| unsafe { x86::f32_256(steps) };
            return ArithmeticLoop { operations_per_step: x86::ACCUMULATORS_256 * 16, run };
        }
    }
    ArithmeticLoop { operations_per_step: ACCUMULATORS * 8, run: portable }
}

fn bf16() -> Option<f64> {
    #[cfg(target_arch = "x86_64")]
    if isa::has_avx512_bf16() {
        // SAFETY: the instruction set was detected.
        let run = |steps| unsafe { x86::bf16_512(steps) };
        return Some(arithmetic(ArithmeticLoop { operations_per_step: ACCUMULATORS * 64, run }));
    }
    None
}

fn int8() -> Option<f64> {
    #[cfg(target_arch = "x86_64")]
    if isa::has_avx512_vnni() {
        // SAFETY: the instruction set was detected.
        let run = |steps| unsafe { x86::int8_512(steps) };
        return Some(arithmetic(ArithmeticLoop { operations_per_step: ACCUMULATORS * 128, run }));
    }
    None
}

/// Multiply-adds of four lanes: 128-bit vectors, the baseline of both architectures.
fn portable(steps: usize) {
    let mut sums = [[0.0f32; 4]; ACCUMULATORS];
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

    use super::ACCUMULATORS;

    /// Few enough for the 16 registers, with the two operands.
    pub(super) const ACCUMULATORS_256: usize = 12;

    #[target_feature(enable = "avx512f")]
    pub(super) fn f32_512(steps: usize) {
        let (a, b) = (_mm512_set1_ps(black_box(1.0)), _mm512_set1_ps(black_box(1e-9)));
        let mut sums = [_mm512_setzero_ps(); ACCUMULATORS];
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
        let mut sums = [_mm256_setzero_ps(); ACCUMULATORS_256];
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
        let mut sums = [_mm512_setzero_ps(); ACCUMULATORS];
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
        let mut sums = [_mm512_setzero_si512(); ACCUMULATORS];
        for _ in 0..steps {
            for sum in &mut sums {
                *sum = _mm512_dpbusd_epi32(*sum, a, b);
            }
        }
        black_box(sums);
    }
}

/// Bytes per second that all threads together read.
fn read(bytes: usize) -> std::io::Result<f64> {
    let mut map = memmap2::MmapMut::map_anon(bytes.max(1 << 20))?;
    // Best effort: without huge pages the figure is that of small pages.
    #[cfg(target_os = "linux")]
    let _ = map.advise(memmap2::Advice::HugePage);
    map.chunks_mut(1 << 21).par_for_each(|chunk| chunk.fill(1));
    let words: &[u64] = bytemuck::cast_slice(&map);
    // Chunks of 1 MiB, about a weight matrix: the hardware prefetcher starts anew at each.
    let chunk = 1 << 17;
    let best = (0..ROUNDS).map(|_| {
        let start = Instant::now();
        black_box(words.chunks(chunk).par_map(sum));
        start.elapsed().as_secs_f64()
    });
    Ok(map.len() as f64 / best.fold(f64::INFINITY, f64::min))
}

/// The sum of `words`, over independent lanes and with prefetches: the hardware prefetcher alone keeps too few reads in
/// flight.
fn sum(words: &[u64]) -> u64 {
    dispatch(
        #[inline(always)]
        || {
            let mut lanes = [0u64; 32];
            for chunk in words.chunks_exact(32) {
                for line in 0..4 {
                    prefetch(chunk.as_ptr().wrapping_add(PREFETCH_BYTES / 8 + 8 * line));
                }
                for (lane, word) in lanes.iter_mut().zip(chunk) {
                    *lane = lane.wrapping_add(*word);
                }
            }
            lanes.iter().fold(0u64, |sum, lane| sum.wrapping_add(*lane))
        },
    )
}

/// Prefetches the cache line at `at`, which may dangle.
#[inline(always)]
fn prefetch(at: *const u64) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: part of the x86-64 baseline; a prefetch has no visible effect and does not fault.
    unsafe {
        std::arch::x86_64::_mm_prefetch::<{ std::arch::x86_64::_MM_HINT_T0 }>(at.cast());
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = at;
}
