// Pixel unshuffle (space to depth).
//   dst[c*r*r + i*r + j, y, x] = src[c, y*r + i, x*r + j]
// src [c, h*r, w*r]   dst [c*r*r, h, w]   one invocation per group of four channels of a dst pixel

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
// By single channels: the four that an invocation gathers come from different pixels.
@group(0) @binding(1) var<storage, read> src: array<elem>;
@group(0) @binding(2) var<storage, read_write> dst: array<elem4>;

@compute @workgroup_size(8, 8, 1)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
    if id.x >= params.dst_width || id.y >= params.dst_height {
        return;
    }
    var value: vec4<f32>;
    for (var lane = 0u; lane < 4u; lane++) {
        // Padding lanes repeat the last channel, so that every read is of a channel that exists.
        let channel = min(id.z * 4u + lane, params.dst_channels - 1u);
        let phase = channel % (FACTOR * FACTOR);
        let row = id.y * FACTOR + phase / FACTOR;
        let column = id.x * FACTOR + phase % FACTOR;
        value[lane] = f32(src[(row * params.src_width + column) * params.src_groups * 4u + channel / (FACTOR * FACTOR)]);
    }
    dst[(id.y * params.dst_width + id.x) * params.dst_groups + id.z] = to_elem4(value);
}
