// Cuts the borders off an image.
//   dst[c, y, x] = src[c, y + top, x + left]
// src [channels, h, w]   dst [channels, h', w']   one invocation per group of four channels of a dst pixel
// Every read is in bounds because dst is smaller than src by top and left at least.

struct Params {
    src_width: u32,
    dst_width: u32,
    dst_height: u32,
    groups: u32,
    left: u32,
    top: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> src: array<elem4>;
@group(0) @binding(2) var<storage, read_write> dst: array<elem4>;

@compute @workgroup_size(8, 8, 1)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
    if id.x >= params.dst_width || id.y >= params.dst_height {
        return;
    }
    let pixel = (id.y + params.top) * params.src_width + id.x + params.left;
    dst[(id.y * params.dst_width + id.x) * params.groups + id.z] = src[pixel * params.groups + id.z];
}
