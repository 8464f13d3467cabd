// Activation function, element by element.
//   dst[c, y, x] = f(src[c, y, x])
// src, dst [channels, height, width]   slope [channels], PReLU's   one invocation per group of four channels

struct Params {
    width: u32,
    height: u32,
    groups: u32,
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
    let at = (id.y * params.width + id.x) * params.groups + id.z;
    dst[at] = to_elem4(activate(vec4<f32>(src[at]), vec4<f32>(slope[id.z])));
}
