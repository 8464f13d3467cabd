// Two tensors, or three, element by element, then an activation.
//   KIND 1: r = alpha * a + beta * g(b)      KIND 2: r = a * g(b)
//   THEN 0: dst = f(r)    1: dst = f(then_alpha * r + then_beta * c)    2: dst = f(r * c)
// a, c, dst [channels, height, width]   b of the same size (BROADCAST 0), [channels, 1, 1] (1) or [1, height, width] (2)
// slope [channels], PReLU's   one invocation per pixel: an image larger than the caches goes through them once, not once for
// every group of channels
// Padding lanes are set to zero: the products of a long chain would leave the finite numbers.

struct Params {
    width: u32,
    height: u32,
    groups: u32,
    channels: u32,
    alpha: f32,
    beta: f32,
    then_alpha: f32,
    then_beta: f32,
}

override KIND: u32;
override BROADCAST: u32;
// g, as ACTIVATION and ALPHA are f.
override SECOND: u32;
override SECOND_ALPHA: f32;
override THEN: u32;

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> a: array<elem4>;
@group(0) @binding(2) var<storage, read> b: array<elem4>;
@group(0) @binding(3) var<storage, read> c: array<elem4>;
@group(0) @binding(4) var<storage, read> slope: array<elem4>;
@group(0) @binding(5) var<storage, read_write> dst: array<elem4>;

@compute @workgroup_size(8, 8, 1)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
    if id.x >= params.width || id.y >= params.height {
        return;
    }
    let pixel = id.y * params.width + id.x;
    for (var g = 0u; g < params.groups; g++) {
        let at = pixel * params.groups + g;
        var other: vec4<f32>;
        switch BROADCAST {
            case 1u: { other = vec4<f32>(b[g]); }
            case 2u: { other = vec4<f32>(f32(b[pixel].x)); }
            default: { other = vec4<f32>(b[at]); }
        }
        other = activate_by(SECOND, SECOND_ALPHA, other, vec4<f32>(0.0));
        var value = combine(KIND, vec4<f32>(a[at]), params.alpha, other, params.beta);
        if THEN > 0u {
            value = combine(THEN, value, params.then_alpha, vec4<f32>(c[at]), params.then_beta);
        }
        value = select(vec4<f32>(0.0), value, live4(g, params.channels));
        dst[at] = to_elem4(activate(value, vec4<f32>(slope[g])));
    }
}
