// A factor and an offset for each channel, then an activation.
//   dst[c, y, x] = f(src[c, y, x] * scale[c] + shift[c])
// src, dst [channels, height, width]   affine scale, shift, then slope, each [channels]
// One invocation per group of four channels. The scale and shift of padding lanes are zero.

struct Params {
    width: u32,
    height: u32,
    groups: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> src: array<elem4>;
@group(0) @binding(2) var<storage, read> affine: array<elem4>;
@group(0) @binding(3) var<storage, read_write> dst: array<elem4>;

@compute @workgroup_size(8, 8, 1)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
    if id.x >= params.width || id.y >= params.height {
        return;
    }
    let at = (id.y * params.width + id.x) * params.groups + id.z;
    let scale = vec4<f32>(affine[id.z]);
    let shift = vec4<f32>(affine[params.groups + id.z]);
    let slope = vec4<f32>(affine[2u * params.groups + id.z]);
    dst[at] = to_elem4(activate(vec4<f32>(src[at]) * scale + shift, slope));
}
