// 2-D convolution, direct: each invocation keeps a run of 8 pixels of a row x a block of output channels in registers.
//   dst[o, y, x] = f(bias[o] + sum over ky, kx, i of weight[o, i, ky, kx] * src[i, y*stride + ky*dilation - pad, ...])
// src [in, h, w]   weight as blocks [ky][kx][in] of output channels   epilogue bias [out], then slope [out]
// dst [out, h', w']. The order of the sum is the same for every pixel: it gets the same bits in any tile.
// `src` may be two joined images or one with layer norm (lib/source.wgsl); a gate or a pixel shuffle may follow (lib/store.wgsl).

struct Params {
    src_width: u32,
    src_height: u32,
    src_groups: u32,
    dst_width: u32,
    dst_height: u32,
    dst_groups: u32,
    pad_left: i32,
    pad_top: i32,
    // First group of output channels, length of a block of weights, workgroups in x.
    group: u32,
    block: u32,
    row: u32,
    // See lib/store.wgsl.
    line: u32,
}

override KERNEL_HEIGHT: u32;
override KERNEL_WIDTH: u32;
override STRIDE_Y: u32;
override STRIDE_X: u32;
override DILATION_Y: u32;
override DILATION_X: u32;
override BORDER: u32;

const INVOCATIONS = 32u;

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> src: array<elem4>;
@group(0) @binding(3) var<storage, read> epilogue: array<elem4>;
@group(0) @binding(4) var<storage, read> residual: array<elem4>;
@group(0) @binding(5) var<storage, read> extra: array<elem4>;
@group(0) @binding(6) var<storage, read> statistics: array<vec2<f32>>;
@group(0) @binding(7) var<storage, read_write> dst: array<elem4>;

@compute @workgroup_size(INVOCATIONS, 1, 1)
fn main(@builtin(local_invocation_index) local: u32, @builtin(workgroup_id) workgroup: vec3<u32>) {
    // Runs of pixels, counted through the rows; those behind the last one repeat it and are not stored.
    let runs = (params.dst_width + PIXELS - 1u) / PIXELS;
    let index = (workgroup.y * params.row + workgroup.x) * INVOCATIONS + local;
    let run = min(index, runs * params.dst_height - 1u);
    let y = run / runs;
    let x0 = (run % runs) * PIXELS;
    let group = params.group + workgroup.z * GROUPS;

    var sums = begin(group);
    var at = workgroup.z * params.block;
    for (var ky = 0u; ky < KERNEL_HEIGHT; ky++) {
        let y = border(i32(y * STRIDE_Y + ky * DILATION_Y) - params.pad_top, i32(params.src_height), BORDER);
        let row = u32(max(y, 0)) * params.src_width;
        for (var kx = 0u; kx < KERNEL_WIDTH; kx++) {
            var places: array<Place, 8>;
            for (var p = 0u; p < PIXELS; p++) {
                let x = min(x0 + p, params.dst_width - 1u);
                let column = border(i32(x * STRIDE_X + kx * DILATION_X) - params.pad_left, i32(params.src_width), BORDER);
                places[p] = place(row + u32(max(column, 0)), select(0.0, 1.0, y >= 0 && column >= 0));
            }
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
        }
    }

    let end = select(0u, params.dst_width, index == run);
    store_run(sums, y * params.dst_width + x0, 1u, x0, 1u, end, group);
}
