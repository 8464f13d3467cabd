// Gate: the first half of the channels, activated, times the second half.
//   dst[c, y, x] = f(src[c, y, x]) * src[channels + c, y, x]
// src [2 * channels, height, width]   dst [channels, height, width]   slope [channels], PReLU's
// One invocation per pixel, as in `binary`. The second half may start inside a group: it is read from two and shifted.

struct Params {
    width: u32,
    height: u32,
    src_groups: u32,
    dst_groups: u32,
    channels: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> src: array<elem4>;
@group(0) @binding(2) var<storage, read> slope: array<elem4>;
@group(0) @binding(3) var<storage, read_write> dst: array<elem4>;

@compute @workgroup_size(8, 8, 1)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
    if id.x >= params.width || id.y >= params.height {
        return;
    }
    let pixel = id.y * params.width + id.x;
    let base = pixel * params.src_groups;
    let zero = vec4<f32>(0.0);
    for (var g = 0u; g < params.dst_groups; g++) {
        let second = params.channels / 4u + g;
        let low = vec4<f32>(src[base + second]);
        // Past the last group only padding lanes would be read.
        let high = vec4<f32>(src[base + min(second + 1u, params.src_groups - 1u)]);
        let live = live4(g, params.channels);
        let first = select(zero, vec4<f32>(src[base + g]), live);
        let factor = select(zero, shift4(low, high, params.channels % 4u), live);
        dst[pixel * params.dst_groups + g] = to_elem4(activate(first, vec4<f32>(slope[g])) * factor);
    }
}
