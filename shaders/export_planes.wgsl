// The kernels' storage layout into planes as the host has them.
//   dst[c, pixel] = src[c, pixel]
// src [channels, pixels] as stored   dst [channels, pixels], plane after plane   one invocation per pixel and group of four channels

struct Params {
    pixels: u32,
    groups: u32,
    channels: u32,
    // Workgroups in x.
    row: u32,
}

const INVOCATIONS = 64u;

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> src: array<elem4>;
@group(0) @binding(2) var<storage, read_write> dst: array<elem>;

@compute @workgroup_size(INVOCATIONS, 1, 1)
fn main(@builtin(local_invocation_index) local: u32, @builtin(workgroup_id) workgroup: vec3<u32>) {
    let pixel = (workgroup.y * params.row + workgroup.x) * INVOCATIONS + local;
    if pixel >= params.pixels {
        return;
    }
    let group = workgroup.z;
    let value = src[pixel * params.groups + group];
    for (var lane = 0u; lane < min(4u, params.channels - group * 4u); lane++) {
        dst[(group * 4u + lane) * params.pixels + pixel] = value[lane];
    }
}
