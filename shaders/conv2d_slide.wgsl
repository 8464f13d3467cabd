// 2-D convolution with kernels wider than three pixels and a horizontal step of one: each invocation keeps a run of 8 pixels of
// a row x a block of output channels in registers. The 8 pixels that a tap meets move on by one from tap to tap, so that
// each tap loads one.
//   dst[o, y, x] = f(bias[o] + sum over ky, i, kx of weight[o, i, ky, kx] * src[i, y*stride + ky*dilation - pad, x + kx - pad])
// src [in, h, w]   weight as blocks [ky][in / 4][kx][4] of output channels   epilogue bias [out], then slope [out]
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
override DILATION_Y: u32;
override BORDER: u32;
// Input channels, if fewer than four: the others' weights are zero.
override IN_LANES: u32;

const INVOCATIONS = 32u;

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> src: array<elem4>;
@group(0) @binding(3) var<storage, read> epilogue: array<elem4>;
@group(0) @binding(4) var<storage, read> residual: array<elem4>;
@group(0) @binding(5) var<storage, read> extra: array<elem4>;
@group(0) @binding(6) var<storage, read> statistics: array<vec2<f32>>;
@group(0) @binding(7) var<storage, read_write> dst: array<elem4>;

// Four channels of a pixel of the source, or of what stands for it outside; `y` is negative where that is zero.
fn pixel(x: i32, y: i32, i: u32) -> vec4<f32> {
    let column = border(x, i32(params.src_width), BORDER);
    // A run's end beyond the row may lie beyond the border too: it reads some pixel and is not stored.
    let nearest = u32(clamp(column, 0, i32(params.src_width) - 1));
    return load4(place(u32(max(y, 0)) * params.src_width + nearest, select(0.0, 1.0, column >= 0 && y >= 0)), i);
}

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
    let left = i32(x0) - params.pad_left;
    for (var ky = 0u; ky < KERNEL_HEIGHT; ky++) {
        let y = border(i32(y * STRIDE_Y + ky * DILATION_Y) - params.pad_top, i32(params.src_height), BORDER);
        for (var i = 0u; i < params.src_groups; i++) {
            // One tap behind: the first one moves on, too.
            var v = Pixels(
                vec4<f32>(),
                pixel(left, y, i),
                pixel(left + 1, y, i),
                pixel(left + 2, y, i),
                pixel(left + 3, y, i),
                pixel(left + 4, y, i),
                pixel(left + 5, y, i),
                pixel(left + 6, y, i),
            );
            for (var kx = 0u; kx < KERNEL_WIDTH; kx++) {
                v = Pixels(v.v1, v.v2, v.v3, v.v4, v.v5, v.v6, v.v7, pixel(left + 7 + i32(kx), y, i));
                add_rows(&sums, v, four_rows(at, local), IN_LANES);
                at += 4u;
            }
        }
    }

    let end = select(0u, params.dst_width, index == run);
    store_run(sums, y * params.dst_width + x0, 1u, x0, 1u, end, group);
}
