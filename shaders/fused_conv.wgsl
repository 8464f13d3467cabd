// What a convolution with layer norm before it needs to know of each pixel: what is subtracted, and what it is then multiplied by.
//   dst[pixel] = (mean or 0, 1 / sqrt(variance + eps)) over the pixel's channels
// src [channels, pixels]   dst [pixels]   one invocation per pixel; the variance is about the mean, as in `layer_norm`.

struct Params {
    pixels: u32,
    groups: u32,
    channels: u32,
    eps: f32,
    // Workgroups in x.
    row: u32,
}

override CENTER: u32;

const INVOCATIONS = 64u;

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> src: array<elem4>;
@group(0) @binding(2) var<storage, read_write> dst: array<vec2<f32>>;

@compute @workgroup_size(INVOCATIONS, 1, 1)
fn main(@builtin(local_invocation_index) local: u32, @builtin(workgroup_id) workgroup: vec3<u32>) {
    let pixel = (workgroup.y * params.row + workgroup.x) * INVOCATIONS + local;
    if pixel >= params.pixels {
        return;
    }
    let moments = pixel_moments(pixel * params.groups, params.groups, params.channels, params.eps);
    dst[pixel] = vec2<f32>(select(0.0, moments.x, CENTER == 1u), moments.y);
}
