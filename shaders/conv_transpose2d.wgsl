// Transposed 2-D convolution as a gather: each invocation keeps a run of 8 pixels x a block of output channels in registers.
//   dst[o, y, x] = f(bias[o] + sum over ky, kx, i of weight[i, o, ky, kx] * src[i, (y + pad - ky*dilation) / stride, ...])
//   over the taps for which the division leaves no rest and the pixel is in src
// src [in, h, w]   weight as blocks [ky][kx][in] of output channels   epilogue bias [out], then slope [out]
// dst [out, h', w']. Pixels that are stride apart (of one phase) meet the same taps, so a workgroup computes one phase and
// its runs go from pixel to pixel of that phase: nobody waits, and neighbours read neighbours.

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

const INVOCATIONS = 32u;

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> src: array<elem4>;
@group(0) @binding(3) var<storage, read> epilogue: array<elem4>;
@group(0) @binding(4) var<storage, read> residual: array<elem4>;
@group(0) @binding(5) var<storage, read_write> dst: array<elem4>;

@compute @workgroup_size(INVOCATIONS, 1, 1)
fn main(@builtin(local_invocation_index) local: u32, @builtin(workgroup_id) workgroup: vec3<u32>) {
    let phase = workgroup.z % (STRIDE_Y * STRIDE_X);
    let first_y = phase / STRIDE_X;
    let first_x = phase % STRIDE_X;
    let layer = workgroup.z / (STRIDE_Y * STRIDE_X);
    // Runs of a phase's pixels, counted through its rows; those behind the last one repeat it and are not stored.
    let columns = (params.dst_width + STRIDE_X - 1u) / STRIDE_X;
    let lines = (params.dst_height + STRIDE_Y - 1u) / STRIDE_Y;
    let runs = (columns + PIXELS - 1u) / PIXELS;
    let index = (workgroup.y * params.row + workgroup.x) * INVOCATIONS + local;
    let run = min(index, runs * lines - 1u);
    let y = run / runs * STRIDE_Y + first_y;
    let x0 = run % runs * PIXELS * STRIDE_X + first_x;
    let group = params.group + layer * GROUPS;

    var sums = begin(group);
    for (var ky = 0u; ky < KERNEL_HEIGHT; ky++) {
        // Where the tap stands among the source's rows, in steps of 1 / stride: whole for all pixels of a phase or for none.
        if (i32(first_y) + params.pad_top - i32(ky * DILATION_Y)) % i32(STRIDE_Y) != 0 {
            continue;
        }
        let row_steps = i32(y) + params.pad_top - i32(ky * DILATION_Y);
        let row = row_steps / i32(STRIDE_Y);
        let above = row_steps >= 0 && row < i32(params.src_height);
        let line = u32(clamp(row, 0, i32(params.src_height) - 1)) * params.src_width;
        for (var kx = 0u; kx < KERNEL_WIDTH; kx++) {
            if (i32(first_x) + params.pad_left - i32(kx * DILATION_X)) % i32(STRIDE_X) != 0 {
                continue;
            }
            let column_steps = i32(x0) + params.pad_left - i32(kx * DILATION_X);
            var base: array<u32, 8>;
            var inside: array<f32, 8>;
            for (var p = 0u; p < PIXELS; p++) {
                let column = column_steps / i32(STRIDE_X) + i32(p);
                let nearest = clamp(column, 0, i32(params.src_width) - 1);
                inside[p] = select(0.0, 1.0, above && column == nearest);
                base[p] = (line + u32(nearest)) * params.src_groups;
            }
            var at = layer * params.block + (ky * KERNEL_WIDTH + kx) * params.src_groups * 4u;
            for (var i = 0u; i < params.src_groups; i++) {
                let v = Pixels(
                    vec4<f32>(src[base[0] + i]) * inside[0],
                    vec4<f32>(src[base[1] + i]) * inside[1],
                    vec4<f32>(src[base[2] + i]) * inside[2],
                    vec4<f32>(src[base[3] + i]) * inside[3],
                    vec4<f32>(src[base[4] + i]) * inside[4],
                    vec4<f32>(src[base[5] + i]) * inside[5],
                    vec4<f32>(src[base[6] + i]) * inside[6],
                    vec4<f32>(src[base[7] + i]) * inside[7],
                );
                add_rows(&sums, v, four_rows(at, local), 4u);
                at += 4u;
            }
        }
    }

    let end = select(0u, params.dst_width, index == run && y < params.dst_height);
    store_run(sums, y * params.dst_width + x0, STRIDE_X, x0, STRIDE_X, end, group);
}
