// A linear map of the channels of every pixel: each invocation keeps 4 pixels x 8 output channels in registers.
//   dst[o, p] = f(bias[o] + sum over i of weight[o, i] * src[i, p])
// src [in, pixels]   weight as a matrix [in, out]   epilogue bias [out], then slope [out]   dst [out, pixels]
// Pixels are counted through the rows of the image. All invocations of a workgroup read the same weights, and
// neighbours' pixels are neighbours in memory. Sums run over i, whatever the tile.

struct Params {
    pixels: u32,
    src_groups: u32,
    dst_groups: u32,
    // Workgroups in x; y counts on where x ends.
    row: u32,
}

// 0 none, 1 added before the activation, 2 after.
override RESIDUAL: u32;

const INVOCATIONS = 64u;
const PIXELS = 4u;
const GROUPS = 2u;

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> src: array<elem4>;
@group(0) @binding(2) var<storage, read> weight: array<elem4>;
@group(0) @binding(3) var<storage, read> epilogue: array<elem4>;
@group(0) @binding(4) var<storage, read> residual: array<elem4>;
@group(0) @binding(5) var<storage, read_write> dst: array<elem4>;

@compute @workgroup_size(INVOCATIONS, 1, 1)
fn main(@builtin(local_invocation_index) local: u32, @builtin(workgroup_id) workgroup: vec3<u32>) {
    let pixel0 = (workgroup.y * params.row + workgroup.x) * INVOCATIONS * PIXELS + local;
    if pixel0 >= params.pixels {
        return;
    }
    let group0 = workgroup.z * GROUPS;
    // An odd number of output groups: the second half computes the first once more and does not store it.
    let group1 = min(group0 + 1u, params.dst_groups - 1u);

    var sum0: array<vec4<f32>, 4>;
    var sum1: array<vec4<f32>, 4>;
    var base: array<u32, 4>;
    for (var p = 0u; p < PIXELS; p++) {
        sum0[p] = vec4<f32>(epilogue[group0]);
        sum1[p] = vec4<f32>(epilogue[group1]);
        // Pixels behind the last one repeat it.
        base[p] = min(pixel0 + p * INVOCATIONS, params.pixels - 1u) * params.src_groups;
    }

    var at = 0u;
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
            let v = vec4<f32>(src[base[p] + i]);
            sum0[p] = fma(a3, vec4(v.w), fma(a2, vec4(v.z), fma(a1, vec4(v.y), fma(a0, vec4(v.x), sum0[p]))));
            sum1[p] = fma(b3, vec4(v.w), fma(b2, vec4(v.z), fma(b1, vec4(v.y), fma(b0, vec4(v.x), sum1[p]))));
        }
    }

    for (var p = 0u; p < PIXELS; p++) {
        let pixel = pixel0 + p * INVOCATIONS;
        if pixel < params.pixels {
            store(pixel * params.dst_groups + group0, group0, sum0[p]);
            if group1 != group0 {
                store(pixel * params.dst_groups + group1, group1, sum1[p]);
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
