// Transposed 2-D convolution as a gather: each invocation keeps 4 pixels x 8 output channels in registers.
//   dst[o, y, x] = f(bias[o] + sum over ky, kx, i of weight[i, o, ky, kx] * src[i, (y + pad - ky*dilation) / stride, ...])
//   over the taps for which the division leaves no rest and the pixel is in src
// src [in, h, w]   weight as a matrix [kh * kw * in, out]   epilogue bias [out], then slope [out]   dst [out, h', w']
// Pixels that are stride apart (of one phase) meet the same taps, so a workgroup computes one phase: nobody waits.

struct Params {
    src_width: u32,
    src_height: u32,
    src_groups: u32,
    dst_width: u32,
    dst_height: u32,
    dst_groups: u32,
    pad_left: i32,
    pad_top: i32,
}

override KERNEL_HEIGHT: u32;
override KERNEL_WIDTH: u32;
override STRIDE_Y: u32;
override STRIDE_X: u32;
override DILATION_Y: u32;
override DILATION_X: u32;

const PIXELS = 4u;
const GROUPS = 2u;

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> src: array<elem4>;
@group(0) @binding(2) var<storage, read> weight: array<elem4>;
@group(0) @binding(3) var<storage, read> epilogue: array<elem4>;
@group(0) @binding(4) var<storage, read_write> dst: array<elem4>;

@compute @workgroup_size(8, 8, 1)
fn main(@builtin(local_invocation_id) local: vec3<u32>, @builtin(workgroup_id) workgroup: vec3<u32>) {
    let column0 = (workgroup.x / STRIDE_X * 8u + local.x) * PIXELS;
    let x0 = column0 * STRIDE_X + workgroup.x % STRIDE_X;
    let y = (workgroup.y / STRIDE_Y * 8u + local.y) * STRIDE_Y + workgroup.y % STRIDE_Y;
    let group0 = workgroup.z * GROUPS;
    if x0 >= params.dst_width || y >= params.dst_height {
        return;
    }
    // An odd number of output groups: the second half computes the first once more and does not store it.
    let group1 = min(group0 + 1u, params.dst_groups - 1u);

    var sum0: array<vec4<f32>, 4>;
    var sum1: array<vec4<f32>, 4>;
    for (var p = 0u; p < PIXELS; p++) {
        sum0[p] = vec4<f32>(epilogue[group0]);
        sum1[p] = vec4<f32>(epilogue[group1]);
    }

    for (var ky = 0u; ky < KERNEL_HEIGHT; ky++) {
        // Where the tap stands among the source's rows, in steps of 1 / stride.
        let row_steps = i32(y) + params.pad_top - i32(ky * DILATION_Y);
        if row_steps < 0 || row_steps % i32(STRIDE_Y) != 0 || row_steps / i32(STRIDE_Y) >= i32(params.src_height) {
            continue;
        }
        let row = u32(row_steps) / STRIDE_Y;
        for (var kx = 0u; kx < KERNEL_WIDTH; kx++) {
            // Negative where only later pixels of this invocation meet the source.
            let column_steps = i32(x0) + params.pad_left - i32(kx * DILATION_X);
            if column_steps % i32(STRIDE_X) != 0 {
                continue;
            }
            var base: array<u32, 4>;
            var inside: array<f32, 4>;
            for (var p = 0u; p < PIXELS; p++) {
                let column = column_steps / i32(STRIDE_X) + i32(p);
                let nearest = clamp(column, 0, i32(params.src_width) - 1);
                inside[p] = select(0.0, 1.0, column == nearest);
                base[p] = (row * params.src_width + u32(nearest)) * params.src_groups;
            }
            var at = (ky * KERNEL_WIDTH + kx) * params.src_groups * 4u * params.dst_groups;
            for (var i = 0u; i < params.src_groups; i++) {
                let a0 = vec4<f32>(weight[at + group0]);
                let b0 = vec4<f32>(weight[at + group1]);
                at += params.dst_groups;
                let a1 = vec4<f32>(weight[at + group0]);
                let b1 = vec4<f32>(weight[at + group1]);
                at += params.dst_groups;
                let a2 = vec4<f32>(weight[at + group0]);
                let b2 = vec4<f32>(weight[at + group1]);
                at += params.dst_groups;
                let a3 = vec4<f32>(weight[at + group0]);
                let b3 = vec4<f32>(weight[at + group1]);
                at += params.dst_groups;
                for (var p = 0u; p < PIXELS; p++) {
                    let v = vec4<f32>(src[base[p] + i]) * inside[p];
                    sum0[p] = fma(a3, vec4(v.w), fma(a2, vec4(v.z), fma(a1, vec4(v.y), fma(a0, vec4(v.x), sum0[p]))));
                    sum1[p] = fma(b3, vec4(v.w), fma(b2, vec4(v.z), fma(b1, vec4(v.y), fma(b0, vec4(v.x), sum1[p]))));
                }
            }
        }
    }

    for (var p = 0u; p < PIXELS; p++) {
        let x = x0 + p * STRIDE_X;
        if x < params.dst_width {
            let at = (y * params.dst_width + x) * params.dst_groups;
            dst[at + group0] = to_elem4(activate(sum0[p], vec4<f32>(epilogue[params.dst_groups + group0])));
            if group1 != group0 {
                dst[at + group1] = to_elem4(activate(sum1[p], vec4<f32>(epilogue[params.dst_groups + group1])));
            }
        }
    }
}
