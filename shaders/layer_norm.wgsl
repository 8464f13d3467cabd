// Layer norm over the channels of every pixel: one invocation per pixel.
//   mean = sum over c of src[c] / channels      variance = sum over c of (src[c] - mean)^2 / channels
//   dst[c] = (src[c] - mean) / sqrt(variance + eps) * scale[c] + shift[c]      without CENTER, mean is not subtracted
// src, dst [channels, height, width]   affine scale [channels], then shift [channels]

struct Params {
    width: u32,
    height: u32,
    groups: u32,
    channels: u32,
    eps: f32,
}

override CENTER: u32;

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> src: array<elem4>;
@group(0) @binding(2) var<storage, read> affine: array<elem4>;
@group(0) @binding(3) var<storage, read_write> dst: array<elem4>;

@compute @workgroup_size(8, 8, 1)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
    if id.x >= params.width || id.y >= params.height {
        return;
    }
    let base = (id.y * params.width + id.x) * params.groups;
    let moments = pixel_moments(base, params.groups, params.channels, params.eps);
    let center = select(0.0, moments.x, CENTER == 1u);
    let zero = vec4<f32>(0.0);
    for (var g = 0u; g < params.groups; g++) {
        let x = select(zero, vec4<f32>(src[base + g]) - center, live4(g, params.channels));
        let scale = vec4<f32>(affine[g]);
        let shift = vec4<f32>(affine[params.groups + g]);
        dst[base + g] = to_elem4(x * moments.y * scale + shift);
    }
}
