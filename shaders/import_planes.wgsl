// Planes as the host has them into the kernels' storage layout.
//   dst[c, pixel] = src[c, pixel], and `padding` in the padding lanes
// src [channels, pixels], plane after plane   dst [channels, pixels] as stored   one invocation per pixel and group of four channels

struct Params {
    pixels: u32,
    groups: u32,
    channels: u32,
    // Workgroups in x.
    row: u32,
    padding: f32,
}

const INVOCATIONS = 64u;

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> src: array<elem>;
@group(0) @binding(2) var<storage, read_write> dst: array<elem4>;

@compute @workgroup_size(INVOCATIONS, 1, 1)
fn main(@builtin(local_invocation_index) local: u32, @builtin(workgroup_id) workgroup: vec3<u32>) {
    let pixel = (workgroup.y * params.row + workgroup.x) * INVOCATIONS + local;
    if pixel >= params.pixels {
        return;
    }
    let group = workgroup.z;
    var value = vec4<f32>(params.padding);
    for (var lane = 0u; lane < min(4u, params.channels - group * 4u); lane++) {
        value[lane] = f32(src[(group * 4u + lane) * params.pixels + pixel]);
    }
    // Not `to_elem4`: what was a number of the storage type stays one, NaN too.
    dst[pixel * params.groups + group] = elem4(value);
}
