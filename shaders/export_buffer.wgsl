// Writes a tile's core into a planar image, blended with the picture it came from.
//   dst[c, top + y, left + x] = mix(plain[...], clamp(src[c, skip_top + y, skip_left + x] * gain + offset, 0, 1), strength)
// src [channels, *, src_width]   plain, dst [channels, dst_height, dst_width] of f32   one invocation per group and pixel
// With strength 1 `plain` is not read: it may then be of another size.

struct Params {
    src_width: u32,
    skip_top: u32,
    skip_left: u32,
    width: u32,
    height: u32,
    channels: u32,
    dst_width: u32,
    dst_height: u32,
    top: u32,
    left: u32,
    gain: f32,
    offset: f32,
    strength: f32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> src: array<elem4>;
@group(0) @binding(2) var<storage, read> plain: array<f32>;
@group(0) @binding(3) var<storage, read_write> dst: array<f32>;

@compute @workgroup_size(8, 8, 1)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
    if id.x >= params.width || id.y >= params.height {
        return;
    }
    let groups = (params.channels + 3u) / 4u;
    let value = vec4<f32>(src[((params.skip_top + id.y) * params.src_width + params.skip_left + id.x) * groups + id.z]);
    for (var lane = 0u; lane < 4u; lane++) {
        let channel = id.z * 4u + lane;
        if channel < params.channels {
            let at = (channel * params.dst_height + params.top + id.y) * params.dst_width + params.left + id.x;
            var result = clamp(value[lane] * params.gain + params.offset, 0.0, 1.0);
            if params.strength < 1.0 {
                result = mix(plain[at], result, params.strength);
            }
            dst[at] = result;
        }
    }
}
