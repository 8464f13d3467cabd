// 2-D convolution with kernels wider than three pixels and a horizontal step of one: each invocation keeps a run of 8 pixels of
// a row x a block of output channels in registers. The 8 pixels that a tap meets move on by one from tap to tap, so that
// each tap loads one.
//   dst[o, y, x] = f(bias[o] + sum over ky, i, kx of weight[o, i, ky, kx] * src[i, y*stride + ky*dilation - pad, x + kx - pad])
// src [in, h, w]   weight as blocks [ky][in / 4][kx][4] of output channels   epilogue bias [out], then slope [out]
// dst [out, h', w']. The order of the sum is the same for every pixel: it gets the same bits in any tile.

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
}

override KERNEL_HEIGHT: u32;
override KERNEL_WIDTH: u32;
override STRIDE_Y: u32;
override DILATION_Y: u32;
override BORDER: u32;
// Input channels, if fewer than four: the others' weights are zero.
override IN_LANES: u32;

const INVOCATIONS = 32u;
const PIXELS = 8u;

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> src: array<elem4>;
@group(0) @binding(3) var<storage, read> epilogue: array<elem4>;
@group(0) @binding(4) var<storage, read> residual: array<elem4>;
@group(0) @binding(5) var<storage, read_write> dst: array<elem4>;

// Four channels of a pixel of the source, or of what stands for it outside; `y` is negative where that is zero.
fn pixel(x: i32, y: i32, i: u32) -> vec4<f32> {
    let column = border(x, i32(params.src_width), BORDER);
    // A run's end beyond the row may lie beyond the border too: it reads some pixel and is not stored.
    let nearest = u32(clamp(column, 0, i32(params.src_width) - 1));
    let value = vec4<f32>(src[(u32(max(y, 0)) * params.src_width + nearest) * params.src_groups + i]);
    return value * select(0.0, 1.0, column >= 0 && y >= 0);
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

    var sum0 = bias(group);
    var sum1 = bias(group);
    var sum2 = bias(group);
    var sum3 = bias(group);
    var sum4 = bias(group);
    var sum5 = bias(group);
    var sum6 = bias(group);
    var sum7 = bias(group);
    var at = workgroup.z * params.block;
    let left = i32(x0) - params.pad_left;
    for (var ky = 0u; ky < KERNEL_HEIGHT; ky++) {
        let y = border(i32(y * STRIDE_Y + ky * DILATION_Y) - params.pad_top, i32(params.src_height), BORDER);
        for (var i = 0u; i < params.src_groups; i++) {
            var v0 = pixel(left, y, i);
            var v1 = pixel(left + 1, y, i);
            var v2 = pixel(left + 2, y, i);
            var v3 = pixel(left + 3, y, i);
            var v4 = pixel(left + 4, y, i);
            var v5 = pixel(left + 5, y, i);
            var v6 = pixel(left + 6, y, i);
            for (var kx = 0u; kx < KERNEL_WIDTH; kx++) {
                let v7 = pixel(left + 7 + i32(kx), y, i);
                let rows = four_rows(at, local);
                var w = row0(rows);
                sum0 += w * v0.x; sum1 += w * v1.x; sum2 += w * v2.x; sum3 += w * v3.x;
                sum4 += w * v4.x; sum5 += w * v5.x; sum6 += w * v6.x; sum7 += w * v7.x;
                if IN_LANES > 1u {
                    w = row1(rows);
                    sum0 += w * v0.y; sum1 += w * v1.y; sum2 += w * v2.y; sum3 += w * v3.y;
                    sum4 += w * v4.y; sum5 += w * v5.y; sum6 += w * v6.y; sum7 += w * v7.y;
                }
                if IN_LANES > 2u {
                    w = row2(rows);
                    sum0 += w * v0.z; sum1 += w * v1.z; sum2 += w * v2.z; sum3 += w * v3.z;
                    sum4 += w * v4.z; sum5 += w * v5.z; sum6 += w * v6.z; sum7 += w * v7.z;
                }
                if IN_LANES > 3u {
                    w = row3(rows);
                    sum0 += w * v0.w; sum1 += w * v1.w; sum2 += w * v2.w; sum3 += w * v3.w;
                    sum4 += w * v4.w; sum5 += w * v5.w; sum6 += w * v6.w; sum7 += w * v7.w;
                }
                v0 = v1; v1 = v2; v2 = v3; v3 = v4; v4 = v5; v5 = v6; v6 = v7;
                at += 4u;
            }
        }
    }

    let end = select(0u, params.dst_width, index == run);
    var sums = array<block, 8>(sum0, sum1, sum2, sum3, sum4, sum5, sum6, sum7);
    for (var p = 0u; p < PIXELS; p++) {
        if x0 + p < end {
            store_block(y * params.dst_width + x0 + p, group, sums[p]);
        }
    }
}
