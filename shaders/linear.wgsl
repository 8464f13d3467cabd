// A linear map of the channels of every pixel: each invocation keeps 8 pixels x a block of output channels in registers.
//   dst[o, p] = f(bias[o] + sum over i of weight[o, i] * src[i, p])
// src [in, pixels]   weight as blocks [in] of output channels   epilogue bias [out], then slope [out]   dst [out, pixels]
// Pixels are counted through the rows of the image. All invocations of a workgroup read the same weights, and
// neighbours' pixels are neighbours in memory. Sums run over i, whatever the tile.

struct Params {
    pixels: u32,
    src_groups: u32,
    dst_groups: u32,
    // First group of output channels, length of a block of weights, workgroups in x.
    group: u32,
    block: u32,
    row: u32,
}

const INVOCATIONS = 32u;
const PIXELS = 8u;

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> src: array<elem4>;
@group(0) @binding(3) var<storage, read> epilogue: array<elem4>;
@group(0) @binding(4) var<storage, read> residual: array<elem4>;
@group(0) @binding(5) var<storage, read_write> dst: array<elem4>;

@compute @workgroup_size(INVOCATIONS, 1, 1)
fn main(@builtin(local_invocation_index) local: u32, @builtin(workgroup_id) workgroup: vec3<u32>) {
    let pixel = (workgroup.y * params.row + workgroup.x) * INVOCATIONS * PIXELS + local;
    let group = params.group + workgroup.z * GROUPS;
    var base: array<u32, 8>;
    for (var p = 0u; p < PIXELS; p++) {
        // Pixels behind the last one repeat it.
        base[p] = min(pixel + p * INVOCATIONS, params.pixels - 1u) * params.src_groups;
    }
    var sum0 = bias(group);
    var sum1 = bias(group);
    var sum2 = bias(group);
    var sum3 = bias(group);
    var sum4 = bias(group);
    var sum5 = bias(group);
    var sum6 = bias(group);
    var sum7 = bias(group);
    var at = workgroup.z * params.block;
    for (var i = 0u; i < params.src_groups; i++) {
        let v0 = vec4<f32>(src[base[0] + i]);
        let v1 = vec4<f32>(src[base[1] + i]);
        let v2 = vec4<f32>(src[base[2] + i]);
        let v3 = vec4<f32>(src[base[3] + i]);
        let v4 = vec4<f32>(src[base[4] + i]);
        let v5 = vec4<f32>(src[base[5] + i]);
        let v6 = vec4<f32>(src[base[6] + i]);
        let v7 = vec4<f32>(src[base[7] + i]);
        let rows = four_rows(at, local);
        var w: block;
        w = row0(rows);
        sum0 += w * v0.x; sum1 += w * v1.x; sum2 += w * v2.x; sum3 += w * v3.x;
        sum4 += w * v4.x; sum5 += w * v5.x; sum6 += w * v6.x; sum7 += w * v7.x;
        w = row1(rows);
        sum0 += w * v0.y; sum1 += w * v1.y; sum2 += w * v2.y; sum3 += w * v3.y;
        sum4 += w * v4.y; sum5 += w * v5.y; sum6 += w * v6.y; sum7 += w * v7.y;
        w = row2(rows);
        sum0 += w * v0.z; sum1 += w * v1.z; sum2 += w * v2.z; sum3 += w * v3.z;
        sum4 += w * v4.z; sum5 += w * v5.z; sum6 += w * v6.z; sum7 += w * v7.z;
        w = row3(rows);
        sum0 += w * v0.w; sum1 += w * v1.w; sum2 += w * v2.w; sum3 += w * v3.w;
        sum4 += w * v4.w; sum5 += w * v5.w; sum6 += w * v6.w; sum7 += w * v7.w;
        at += 4u;
    }

    var sums = array<block, 8>(sum0, sum1, sum2, sum3, sum4, sum5, sum6, sum7);
    for (var p = 0u; p < PIXELS; p++) {
        if pixel + p * INVOCATIONS < params.pixels {
            store_block(pixel + p * INVOCATIONS, group, sums[p]);
        }
    }
}
