// Reads a tile from a planar image into the kernels' storage layout.
//   dst[c, y, x] = src[c, top + y, left + x] * gain + offset
// src [channels, src_height, src_width] of f32   dst [channels, height, width]   one invocation per group of four channels

struct Params {
    src_width: u32,
    src_height: u32,
    top: u32,
    left: u32,
    width: u32,
    height: u32,
    channels: u32,
    gain: f32,
    offset: f32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> src: array<f32>;
@group(0) @binding(2) var<storage, read_write> dst: array<elem4>;

@compute @workgroup_size(8, 8, 1)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
    if id.x >= params.width || id.y >= params.height {
        return;
    }
    let groups = (params.channels + 3u) / 4u;
    var value = vec4(0.0);
    for (var lane = 0u; lane < 4u; lane++) {
        let channel = id.z * 4u + lane;
        if channel < params.channels {
            let at = (channel * params.src_height + params.top + id.y) * params.src_width + params.left + id.x;
            value[lane] = src[at] * params.gain + params.offset;
        }
    }
    dst[(id.y * params.width + id.x) * groups + id.z] = to_elem4(value);
}
