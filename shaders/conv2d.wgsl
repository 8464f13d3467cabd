// 2-D convolution, direct: each invocation keeps 4 pixels of a row x 8 output channels in registers.
//   dst[o, y, x] = f(bias[o] + sum over ky, kx, i of weight[o, i, ky, kx] * src[i, y*stride + ky*dilation - pad, ...])
// src [in, h, w]   weight as a matrix [kh * kw * in, out]   epilogue bias [out], then slope [out]   dst [out, h', w']
// Sums run over ky, then kx, then i, whatever the tile: the same pixel gets the same bits in any tile.

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
override BORDER: u32;
// 0 none, 1 added before the activation, 2 after.
override RESIDUAL: u32;

const PIXELS = 4u;
const GROUPS = 2u;

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> src: array<elem4>;
@group(0) @binding(2) var<storage, read> weight: array<elem4>;
@group(0) @binding(3) var<storage, read> epilogue: array<elem4>;
@group(0) @binding(4) var<storage, read> residual: array<elem4>;
@group(0) @binding(5) var<storage, read_write> dst: array<elem4>;

@compute @workgroup_size(8, 8, 1)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
    let x0 = id.x * PIXELS;
    let y = id.y;
    let group0 = id.z * GROUPS;
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
        let row = border(i32(y * STRIDE_Y + ky * DILATION_Y) - params.pad_top, i32(params.src_height), BORDER);
        if row < 0 {
            continue;
        }
        for (var kx = 0u; kx < KERNEL_WIDTH; kx++) {
            var base: array<u32, 4>;
            var inside: array<f32, 4>;
            for (var p = 0u; p < PIXELS; p++) {
                // The last invocation of a row may own pixels beyond its end: they repeat the last one.
                let x = min(x0 + p, params.dst_width - 1u);
                let column = border(i32(x * STRIDE_X + kx * DILATION_X) - params.pad_left, i32(params.src_width), BORDER);
                inside[p] = select(0.0, 1.0, column >= 0);
                base[p] = (u32(row) * params.src_width + u32(max(column, 0))) * params.src_groups;
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
        if x0 + p < params.dst_width {
            let at = (y * params.dst_width + x0 + p) * params.dst_groups;
            store(at + group0, group0, sum0[p]);
            if group1 != group0 {
                store(at + group1, group1, sum1[p]);
            }
        }
    }
}

fn store(at: u32, group: u32, sum: vec4<f32>) {
    var value = sum;
    if RESIDUAL == 1u {
        value += vec4<f32>(residual[at]);
    }
    value = activate(value, vec4<f32>(epilogue[params.dst_groups + group]));
    if RESIDUAL == 2u {
        value += vec4<f32>(residual[at]);
    }
    dst[at] = to_elem4(value);
}
