//! What vectors of 512 bits cost. Processors that have them either multiply them as fast as vectors of 256 bits, or take two turns
//! for each. No flag common to them tells which, and a virtual machine may hide the model, so it is measured.

use std::hint::black_box;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use pulp::{Simd, WithSimd, x86};

/// True if a multiply-add of 512 bits takes two turns of one of 256. Measured once, in about 50 microseconds.
pub(super) fn takes_two_turns(wide: x86::V4, narrow: x86::V3) -> bool {
    static ANSWER: OnceLock<bool> = OnceLock::new();
    *ANSWER.get_or_init(|| fastest(wide).as_nanos() * 2 > fastest(narrow).as_nanos() * 3)
}

/// The least time of many: other work disturbs single ones, and some processors take a while to power wide units up.
fn fastest<S: Simd>(simd: S) -> Duration {
    (0..TRIES).map(|_| simd.vectorize(Chains)).min().unwrap_or_default()
}

const TRIES: usize = 50;

/// Times multiply-adds that wait for nothing but a free unit.
struct Chains;

impl WithSimd for Chains {
    type Output = Duration;

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) -> Duration {
        // Two units with a delay of four cycles each are busy with eight; 16 registers hold ten and their factors.
        let mut sums = [simd.splat_f32s(black_box(1.0)); 10];
        let (a, b) = (simd.splat_f32s(black_box(0.5)), simd.splat_f32s(black_box(1.0)));
        let started = Instant::now();
        for _ in 0..200 {
            for sum in &mut sums {
                *sum = simd.mul_add_e_f32s(*sum, a, b);
            }
        }
        // All sums must be there before the clock is read.
        let total = sums.into_iter().fold(simd.splat_f32s(0.0), |total, sum| simd.add_f32s(total, sum));
        black_box(simd.reduce_sum_f32s(total));
        started.elapsed()
    }
}
