// A linear map of the channels of every pixel: each invocation keeps 8 pixels x a block of output channels in registers.
//   dst[o, p] = f(bias[o] + sum over i of weight[o, i] * src[i, p])
// src [in, pixels]   weight as blocks [in] of output channels   epilogue bias [out], then slope [out]   dst [out, pixels]
// Pixels are counted through the rows of the image. Eight neighbouring invocations read the same weights, and their pixels are
// neighbours in memory. Sums run over i, whatever the tile.
// Winograd's convolution multiplies 16 matrices, each with as many pixels of its own.
// `src` may be two joined images or one with layer norm (lib/source.wgsl); a gate or a pixel shuffle may follow (lib/store.wgsl).

struct Params {
    pixels: u32,
    src_groups: u32,
    dst_groups: u32,
    // First group of output channels, length of a block of weights, workgroups in x.
    group: u32,
    block: u32,
    row: u32,
    // Length of a matrix of weights, and its pixels.
    matrix: u32,
    matrix_pixels: u32,
    // See lib/store.wgsl.
    line: u32,
}

const INVOCATIONS = 32u;
const NEIGHBOURS = 8u;

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> src: array<elem4>;
@group(0) @binding(3) var<storage, read> epilogue: array<elem4>;
@group(0) @binding(4) var<storage, read> residual: array<elem4>;
@group(0) @binding(5) var<storage, read> extra: array<elem4>;
@group(0) @binding(6) var<storage, read> statistics: array<vec2<f32>>;
@group(0) @binding(7) var<storage, read_write> dst: array<elem4>;

@compute @workgroup_size(INVOCATIONS, 1, 1)
fn main(@builtin(local_invocation_index) local: u32, @builtin(workgroup_id) workgroup: vec3<u32>) {
    let index = (workgroup.y * params.row + workgroup.x) * INVOCATIONS + local;
    let first = index / NEIGHBOURS * NEIGHBOURS * PIXELS;
    let pixel = first + index % NEIGHBOURS;
    let group = params.group + workgroup.z * GROUPS;
    var places: array<Place, 8>;
    for (var p = 0u; p < PIXELS; p++) {
        // Pixels behind the last one repeat it.
        places[p] = place(min(pixel + p * NEIGHBOURS, params.pixels - 1u), 1.0);
    }
    var sums = begin(group);
    // Behind the last pixel the last matrix goes on.
    var at = min(first, params.pixels - 1u) / params.matrix_pixels * params.matrix + workgroup.z * params.block;
    for (var i = 0u; i < params.src_groups; i++) {
        let v = Pixels(
            load4(places[0], i),
            load4(places[1], i),
            load4(places[2], i),
            load4(places[3], i),
            load4(places[4], i),
            load4(places[5], i),
            load4(places[6], i),
            load4(places[7], i),
        );
        add_rows(&sums, v, four_rows(at, local), 4u);
        at += 4u;
    }

    store_run(sums, pixel, NEIGHBOURS, pixel, NEIGHBOURS, params.pixels, group);
}
