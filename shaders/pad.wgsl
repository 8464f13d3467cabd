// Pads an image with zeros, its mirror image or its edge.
//   dst[c, y, x] = src[c, y - pad_top, x - pad_left]
// src [channels, h, w]   dst [channels, h', w']   one invocation per group of four channels of a dst pixel

struct Params {
    src_width: u32,
    src_height: u32,
    dst_width: u32,
    dst_height: u32,
    groups: u32,
    pad_left: i32,
    pad_top: i32,
}

override BORDER: u32;

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> src: array<elem4>;
@group(0) @binding(2) var<storage, read_write> dst: array<elem4>;

@compute @workgroup_size(8, 8, 1)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
    if id.x >= params.dst_width || id.y >= params.dst_height {
        return;
    }
    let row = border(i32(id.y) - params.pad_top, i32(params.src_height), BORDER);
    let column = border(i32(id.x) - params.pad_left, i32(params.src_width), BORDER);
    var value = to_elem4(vec4(0.0));
    if row >= 0 && column >= 0 {
        value = src[(u32(row) * params.src_width + u32(column)) * params.groups + id.z];
    }
    dst[(id.y * params.dst_width + id.x) * params.groups + id.z] = value;
}
