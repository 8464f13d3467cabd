//! Elementary functions in f32, in steps that compilers turn into vectors: no branches, no tables, no calls.
//!
//! Errors are measured in the tests below. What is not a number stays so, but for `larger`.

/// The larger of two numbers, `b` if either is none. (`f32::max` is a call in WebAssembly.)
#[inline(always)]
pub(super) fn larger(a: f32, b: f32) -> f32 {
    if a > b { a } else { b }
}

/// The exponential, to two units in the last place. Below -87 and above 88 it stays what it is there.
#[inline(always)]
pub(super) fn exp(x: f32) -> f32 {
    // Added, it leaves a number rounded to an integer, in the lowest bits.
    const ROUND: f32 = 12_582_912.0;
    const LN_2: [f32; 2] = [0.693_359_4, -2.121_944_4e-4];
    let x = clamp(x, -87.0, 88.0);
    let rounded = x * std::f32::consts::LOG2_E + ROUND;
    let power = rounded - ROUND;
    let rest = (x - power * LN_2[0]) - power * LN_2[1];
    // The series, its coefficients adjusted to |rest| <= ln 2 / 2 (Cephes).
    let sum = polynomial(rest, [1.987_569_1e-4, 1.398_199_9e-3, 8.333_452e-3, 4.166_579_6e-2, 1.666_666_5e-1, 0.5]);
    let sum = sum * rest * rest + rest + 1.0;
    // Times two to the power: added to the exponent's bits.
    f32::from_bits(sum.to_bits().wrapping_add(rounded.to_bits() << 23))
}

/// `1 / (1 + exp(-x))`.
#[inline(always)]
pub(super) fn sigmoid(x: f32) -> f32 {
    1.0 / (1.0 + exp(-x))
}

/// Hyperbolic tangent.
#[inline(always)]
pub(super) fn tanh(x: f32) -> f32 {
    let size = x.abs();
    let square = x * x;
    // The series, its coefficients adjusted to |x| <= 0.625 (Cephes).
    const SERIES: [f32; 5] = [-5.704_988_7e-3, 2.063_908_8e-2, -5.373_971_5e-2, 1.333_144_2e-1, -3.333_328_3e-1];
    let small = size + size * square * polynomial(square, SERIES);
    let large = 1.0 - 2.0 / (1.0 + exp(2.0 * size));
    (if size < 0.625 { small } else { large }).copysign(x)
}

/// `0.5 x (1 + erf(x / sqrt 2))`, the Gaussian error linear unit.
#[inline(always)]
pub(super) fn gelu(x: f32) -> f32 {
    let y = x.abs() * std::f32::consts::FRAC_1_SQRT_2;
    const END: f32 = 5.5;
    // -ln(erfc y) / y, fitted such that the error of erfc is even on 0..END.
    const SERIES: [f32; 9] = [
        -6.833_005_5e-6,
        9.405_632e-5,
        -5.399_827_5e-4,
        1.476_175_7e-3,
        6.005_545e-5,
        -1.929_638_3e-2,
        1.028_274e-1,
        6.366_114_6e-1,
        1.128_379_6,
    ];
    // Beyond, it is less than 1e-14, which a large x would magnify.
    let complement = if y > END { 0.0 } else { exp(-y * polynomial(y, SERIES)) };
    // Without the difference of 1 and erf, which loses the small values of negative x.
    0.5 * x * if x > 0.0 { 2.0 - complement } else { complement }
}

/// `0.5 x (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3)))`, the approximation that some networks were trained with.
#[inline(always)]
pub(super) fn gelu_tanh(x: f32) -> f32 {
    // sqrt(2 / pi)
    const FACTOR: f32 = 0.797_884_6;
    0.5 * x * (1.0 + tanh(FACTOR * (x + 0.044_715 * x * x * x)))
}

/// `x` within `low..=high`; one instruction for each bound, as `f32::clamp` is not where NaN must stay.
#[inline(always)]
fn clamp(x: f32, low: f32, high: f32) -> f32 {
    let x = if x < low { low } else { x };
    if x > high { high } else { x }
}

/// The polynomial of these coefficients, highest power first.
#[inline(always)]
fn polynomial<const N: usize>(x: f32, coefficients: [f32; N]) -> f32 {
    let mut sum = coefficients[0];
    for coefficient in &coefficients[1..] {
        sum = sum * x + coefficient;
    }
    sum
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The largest error of `function` on `-range..=range`: absolute, and relative to the true value.
    fn errors(range: f64, function: impl Fn(f32) -> f32, truth: impl Fn(f64) -> f64) -> (f64, f64) {
        let (mut absolute, mut relative) = (0.0f64, 0.0f64);
        for step in -200_000..=200_000 {
            let x = (f64::from(step) / 200_000.0 * range) as f32;
            let (actual, expected) = (f64::from(function(x)), truth(f64::from(x)));
            absolute = absolute.max((actual - expected).abs());
            relative = relative.max((actual - expected).abs() / expected.abs().max(1e-30));
        }
        (absolute, relative)
    }

    #[test]
    fn they_are_exact_to_a_few_units_in_the_last_place() {
        assert!(errors(87.0, exp, f64::exp).1 < 1.8e-7);
        assert!(errors(30.0, sigmoid, |x| 1.0 / (1.0 + (-x).exp())).1 < 3e-7);
        assert!(errors(12.0, tanh, f64::tanh).1 < 2.5e-7);
        assert!(errors(1e-3, tanh, f64::tanh).1 < 1.2e-7);
        let exact = |x: f64| 0.5 * x * libm::erfc(-x * std::f64::consts::FRAC_1_SQRT_2);
        assert!(errors(4.0, gelu, exact).0 < 4e-7);
        assert!(errors(3.0, gelu, exact).1 < 2e-6);
        let approximation = |x: f64| 0.5 * x * (1.0 + (0.7978845608028654 * (x + 0.044715 * x * x * x)).tanh());
        assert!(errors(4.0, gelu_tanh, approximation).0 < 6e-7);
    }

    #[test]
    fn extremes_are_what_they_should_be() {
        for function in [exp, sigmoid, tanh, gelu, gelu_tanh] {
            assert!(function(f32::NAN).is_nan());
        }
        assert_eq!([f32::NEG_INFINITY, -1e30, 1e30, f32::INFINITY].map(tanh), [-1.0, -1.0, 1.0, 1.0]);
        assert_eq!([-1e30, 1e30].map(gelu), [-0.0, 1e30]);
        assert_eq!([-1e30, 1e30].map(gelu_tanh), [-0.0, 1e30]);
        assert_eq!(sigmoid(1e30), 1.0);
        assert!(sigmoid(-1e30) < 1e-37 && exp(-1e30) < 1e-37);
        assert!(tanh(-0.0).is_sign_negative() && tanh(0.0) == 0.0);
    }
}
