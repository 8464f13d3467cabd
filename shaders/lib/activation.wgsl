// Activation functions, numbered as `ops::activation::Function`.
override ACTIVATION: u32;
// LeakyReLU's negative slope.
override ALPHA: f32;

// erf by Abramowitz and Stegun's 7.1.26 form is too coarse (1.5e-7 absolute, but 1e-3 relative near zero); this is the
// Taylor/Chebyshev split in the manner of Cody: an odd polynomial below 1, exp times a polynomial in 1/(1 + |x|/2)
// above (Numerical Recipes' erfc, fractional error below 1.2e-7).
fn erf1(x: f32) -> f32 {
    let a = abs(x);
    if a < 1.0 {
        // Maclaurin series of erf, x^(2n+1) / (n! (2n+1)), n = 0..9; the next term is below 1.4e-8.
        let q = x * x;
        var sum = -1.0 / 6894720.0;
        sum = sum * q + 1.0 / 685440.0;
        sum = sum * q - 1.0 / 75600.0;
        sum = sum * q + 1.0 / 9360.0;
        sum = sum * q - 1.0 / 1320.0;
        sum = sum * q + 1.0 / 216.0;
        sum = sum * q - 1.0 / 42.0;
        sum = sum * q + 1.0 / 10.0;
        sum = sum * q - 1.0 / 3.0;
        sum = sum * q + 1.0;
        return 1.1283791670955126 * x * sum;
    }
    let t = 1.0 / (1.0 + 0.5 * a);
    var p = 0.17087277;
    p = p * t - 0.82215223;
    p = p * t + 1.48851587;
    p = p * t - 1.13520398;
    p = p * t + 0.27886807;
    p = p * t - 0.18628806;
    p = p * t + 0.09678418;
    p = p * t + 0.37409196;
    p = p * t + 1.00002368;
    p = p * t - 1.26551223;
    // exp underflows harmlessly; its argument is clamped because WGSL leaves overflow open.
    let tail = t * exp(max(p - a * a, -80.0));
    return select(tail - 1.0, 1.0 - tail, x >= 0.0);
}

fn erf4(x: vec4<f32>) -> vec4<f32> {
    return vec4(erf1(x.x), erf1(x.y), erf1(x.z), erf1(x.w));
}

fn sigmoid4(x: vec4<f32>) -> vec4<f32> {
    return 1.0 / (1.0 + exp(clamp(-x, vec4(-80.0), vec4(80.0))));
}

// Not WGSL's tanh: it may be wrong by 1e-5 and may overflow for large arguments. This one is exact to 1e-7 everywhere.
fn tanh4(x: vec4<f32>) -> vec4<f32> {
    let e = exp(max(-2.0 * abs(x), vec4(-80.0)));
    return sign(x) * ((1.0 - e) / (1.0 + e));
}

fn activate(x: vec4<f32>, slope: vec4<f32>) -> vec4<f32> {
    return activate_by(ACTIVATION, ALPHA, x, slope);
}

// `code` and `alpha` as ACTIVATION and ALPHA.
fn activate_by(code: u32, alpha: f32, x: vec4<f32>, slope: vec4<f32>) -> vec4<f32> {
    switch code {
        case 1u: { return max(x, vec4(0.0)); }
        case 2u: { return select(alpha * x, x, x >= vec4(0.0)); }
        case 3u: { return select(slope * x, x, x >= vec4(0.0)); }
        case 4u: { return x * sigmoid4(x); }
        case 5u: { return 0.5 * x * (1.0 + erf4(x * 0.7071067811865476)); }
        case 6u: { return 0.5 * x * (1.0 + tanh4(0.7978845608028654 * (x + 0.044715 * x * x * x))); }
        case 7u: { return sigmoid4(x); }
        case 8u: { return tanh4(x); }
        default: { return x; }
    }
}
