// Applies the statistics of `moments`, an affine map and an activation; may add a residual.
//   dst[c, y, x] = f((src[c, y, x] - mean[c]) * rstd[c] * scale[c] + shift[c]) (+ residual[c, y, x])
// src, residual, dst [channels, height, width]   moments mean and rstd of each channel in turn, [2 * channels, 1, 1]
// affine scale, shift, then slope, each [channels]   one invocation per group of four channels

struct Params {
    width: u32,
    height: u32,
    groups: u32,
    channels: u32,
}

override RESIDUAL: u32;

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> src: array<elem4>;
@group(0) @binding(2) var<storage, read> moments: array<elem4>;
@group(0) @binding(3) var<storage, read> affine: array<elem4>;
@group(0) @binding(4) var<storage, read> residual: array<elem4>;
@group(0) @binding(5) var<storage, read_write> dst: array<elem4>;

@compute @workgroup_size(8, 8, 1)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
    if id.x >= params.width || id.y >= params.height {
        return;
    }
    let group = id.z;
    let at = (id.y * params.width + id.x) * params.groups + group;
    // Two channels to a vector. The last group may have no second vector; its lanes are then padding.
    let low = vec4<f32>(moments[2u * group]);
    let high = vec4<f32>(moments[min(2u * group + 1u, (params.channels - 1u) / 2u)]);
    let mean = vec4<f32>(low.xz, high.xz);
    let rstd = vec4<f32>(low.yw, high.yw);

    let live = live4(group, params.channels);
    let zero = vec4<f32>(0.0);
    var value = (vec4<f32>(src[at]) - mean) * rstd * vec4<f32>(affine[group]) + vec4<f32>(affine[params.groups + group]);
    value = activate(select(zero, value, live), vec4<f32>(affine[2u * params.groups + group]));
    if RESIDUAL == 1u {
        value += select(zero, vec4<f32>(residual[at]), live);
    }
    dst[at] = to_elem4(value);
}
