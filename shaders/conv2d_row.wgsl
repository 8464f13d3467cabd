// 2-D convolution with kernels three pixels wide and a horizontal step of one: each invocation keeps a run of 8 pixels of a
// row x a block of output channels in registers, and every pixel that it loads serves three taps.
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
override STRIDE_Y: u32;
override DILATION_Y: u32;
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

    var column: array<u32, 10>;
    var inside: array<f32, 10>;
    for (var p = 0u; p < 10u; p++) {
        let x = border(i32(x0 + p) - params.pad_left, i32(params.src_width), BORDER);
        // A run's end beyond the row may lie beyond the border too: it reads some pixel and is not stored.
        column[p] = u32(clamp(x, 0, i32(params.src_width) - 1));
        inside[p] = select(0.0, 1.0, x >= 0);
    }
    var sums = begin(group);
    var at = workgroup.z * params.block;
    for (var ky = 0u; ky < KERNEL_HEIGHT; ky++) {
        let y = border(i32(y * STRIDE_Y + ky * DILATION_Y) - params.pad_top, i32(params.src_height), BORDER);
        let weighs = select(0.0, 1.0, y >= 0);
        let row = u32(max(y, 0)) * params.src_width;
        var places: array<Place, 10>;
        for (var p = 0u; p < 10u; p++) {
            places[p] = place(row + column[p], inside[p] * weighs);
        }
        for (var i = 0u; i < params.src_groups; i++) {
            let v0 = load4(places[0], i);
            let v1 = load4(places[1], i);
            let v2 = load4(places[2], i);
            let v3 = load4(places[3], i);
            let v4 = load4(places[4], i);
            let v5 = load4(places[5], i);
            let v6 = load4(places[6], i);
            let v7 = load4(places[7], i);
            let v8 = load4(places[8], i);
            let v9 = load4(places[9], i);
            let rows = twelve_rows(at, local);
            var w: block;
            w = row0(rows);
            sums.s0 += w * v0.x; sums.s1 += w * v1.x; sums.s2 += w * v2.x; sums.s3 += w * v3.x;
            sums.s4 += w * v4.x; sums.s5 += w * v5.x; sums.s6 += w * v6.x; sums.s7 += w * v7.x;
            w = row4(rows);
            sums.s0 += w * v1.x; sums.s1 += w * v2.x; sums.s2 += w * v3.x; sums.s3 += w * v4.x;
            sums.s4 += w * v5.x; sums.s5 += w * v6.x; sums.s6 += w * v7.x; sums.s7 += w * v8.x;
            w = row8(rows);
            sums.s0 += w * v2.x; sums.s1 += w * v3.x; sums.s2 += w * v4.x; sums.s3 += w * v5.x;
            sums.s4 += w * v6.x; sums.s5 += w * v7.x; sums.s6 += w * v8.x; sums.s7 += w * v9.x;
            w = row1(rows);
            sums.s0 += w * v0.y; sums.s1 += w * v1.y; sums.s2 += w * v2.y; sums.s3 += w * v3.y;
            sums.s4 += w * v4.y; sums.s5 += w * v5.y; sums.s6 += w * v6.y; sums.s7 += w * v7.y;
            w = row5(rows);
            sums.s0 += w * v1.y; sums.s1 += w * v2.y; sums.s2 += w * v3.y; sums.s3 += w * v4.y;
            sums.s4 += w * v5.y; sums.s5 += w * v6.y; sums.s6 += w * v7.y; sums.s7 += w * v8.y;
            w = row9(rows);
            sums.s0 += w * v2.y; sums.s1 += w * v3.y; sums.s2 += w * v4.y; sums.s3 += w * v5.y;
            sums.s4 += w * v6.y; sums.s5 += w * v7.y; sums.s6 += w * v8.y; sums.s7 += w * v9.y;
            w = row2(rows);
            sums.s0 += w * v0.z; sums.s1 += w * v1.z; sums.s2 += w * v2.z; sums.s3 += w * v3.z;
            sums.s4 += w * v4.z; sums.s5 += w * v5.z; sums.s6 += w * v6.z; sums.s7 += w * v7.z;
            w = row6(rows);
            sums.s0 += w * v1.z; sums.s1 += w * v2.z; sums.s2 += w * v3.z; sums.s3 += w * v4.z;
            sums.s4 += w * v5.z; sums.s5 += w * v6.z; sums.s6 += w * v7.z; sums.s7 += w * v8.z;
            w = row10(rows);
            sums.s0 += w * v2.z; sums.s1 += w * v3.z; sums.s2 += w * v4.z; sums.s3 += w * v5.z;
            sums.s4 += w * v6.z; sums.s5 += w * v7.z; sums.s6 += w * v8.z; sums.s7 += w * v9.z;
            w = row3(rows);
            sums.s0 += w * v0.w; sums.s1 += w * v1.w; sums.s2 += w * v2.w; sums.s3 += w * v3.w;
            sums.s4 += w * v4.w; sums.s5 += w * v5.w; sums.s6 += w * v6.w; sums.s7 += w * v7.w;
            w = row7(rows);
            sums.s0 += w * v1.w; sums.s1 += w * v2.w; sums.s2 += w * v3.w; sums.s3 += w * v4.w;
            sums.s4 += w * v5.w; sums.s5 += w * v6.w; sums.s6 += w * v7.w; sums.s7 += w * v8.w;
            w = row11(rows);
            sums.s0 += w * v2.w; sums.s1 += w * v3.w; sums.s2 += w * v4.w; sums.s3 += w * v5.w;
            sums.s4 += w * v6.w; sums.s5 += w * v7.w; sums.s6 += w * v8.w; sums.s7 += w * v9.w;
            at += 12u;
        }
    }

    let end = select(0u, params.dst_width, index == run);
    store_run(sums, y * params.dst_width + x0, 1u, x0, 1u, end, group);
}
