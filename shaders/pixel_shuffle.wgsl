// Pixel shuffle (depth to space).
//   dst[c, y, x] = src[c*r*r + (y % r)*r + x % r, y / r, x / r]
// src [c*r*r, h, w]   dst [c, h*r, w*r]   one invocation per group of four channels of a dst pixel

struct Params {
    src_width: u32,
    src_groups: u32,
    dst_width: u32,
    dst_height: u32,
    dst_groups: u32,
    dst_channels: u32,
}

override FACTOR: u32;

@group(0) @binding(0) var<uniform> params: Params;
// By single channels: the four that an invocation gathers lie r*r apart.
@group(0) @binding(1) var<storage, read> src: array<elem>;
@group(0) @binding(2) var<storage, read_write> dst: array<elem4>;

@compute @workgroup_size(8, 8, 1)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
    if id.x >= params.dst_width || id.y >= params.dst_height {
        return;
    }
    let pixel = ((id.y / FACTOR) * params.src_width + id.x / FACTOR) * params.src_groups * 4u;
    let phase = (id.y % FACTOR) * FACTOR + id.x % FACTOR;
    var value: vec4<f32>;
    for (var lane = 0u; lane < 4u; lane++) {
        // Padding lanes repeat the last channel, so that every read is of a channel that exists.
        let channel = min(id.z * 4u + lane, params.dst_channels - 1u);
        value[lane] = f32(src[pixel + channel * FACTOR * FACTOR + phase]);
    }
    dst[(id.y * params.dst_width + id.x) * params.dst_groups + id.z] = to_elem4(value);
}
