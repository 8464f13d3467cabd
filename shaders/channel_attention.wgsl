// Channel attention: every pixel's values, mixed by the weights that `gram` computed.
//   dst[head * n + i, y, x] = sum over j of w[head, i, j] * v[head * n + j, y, x]      n = HEAD_CHANNELS
// src q, k and v, each [heads * n, height, width]   dst [heads * n, height, width]
// weights: row c = head * n + i is at (c / 4 * n + j) * 4 + c % 4, so that a vector holds one j of four rows
// One invocation computes four channels of four pixels of a row.

struct Params {
    width: u32,
    height: u32,
    src_groups: u32,
    dst_groups: u32,
}

override HEADS: u32;
override HEAD_CHANNELS: u32;

const PIXELS = 4u;

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> src: array<elem4>;
@group(0) @binding(2) var<storage, read> weights: array<elem4>;
@group(0) @binding(3) var<storage, read_write> dst: array<elem4>;

fn channel_of(base: u32, channel: u32) -> f32 {
    return f32(src[base + channel / 4u][channel % 4u]);
}

@compute @workgroup_size(8, 8, 1)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
    let x0 = id.x * PIXELS;
    if x0 >= params.width || id.y >= params.height {
        return;
    }
    let group = id.z;
    let channels = HEADS * HEAD_CHANNELS;
    let row = group * HEAD_CHANNELS;
    var base: array<u32, 4>;
    var sum: array<vec4<f32>, 4>;
    for (var p = 0u; p < PIXELS; p++) {
        // The last invocation of a row may own pixels beyond its end: they repeat the last one.
        base[p] = (id.y * params.width + min(x0 + p, params.width - 1u)) * params.src_groups;
        sum[p] = vec4<f32>(0.0);
    }

    if HEAD_CHANNELS % 4u == 0u {
        // The four channels are of one head, whose values start at a whole group.
        let values = (2u * channels + group * 4u / HEAD_CHANNELS * HEAD_CHANNELS) / 4u;
        for (var j = 0u; j < HEAD_CHANNELS / 4u; j++) {
            let w0 = vec4<f32>(weights[row + 4u * j]);
            let w1 = vec4<f32>(weights[row + 4u * j + 1u]);
            let w2 = vec4<f32>(weights[row + 4u * j + 2u]);
            let w3 = vec4<f32>(weights[row + 4u * j + 3u]);
            for (var p = 0u; p < PIXELS; p++) {
                let v = vec4<f32>(src[base[p] + values + j]);
                sum[p] = fma(w3, vec4(v.w), fma(w2, vec4(v.z), fma(w1, vec4(v.y), fma(w0, vec4(v.x), sum[p]))));
            }
        }
    } else {
        // Each channel's own head; padding lanes follow the last channel.
        let channel = min(vec4<u32>(group * 4u) + vec4<u32>(0u, 1u, 2u, 3u), vec4<u32>(channels - 1u));
        let values = vec4<u32>(2u * channels) + channel / vec4<u32>(HEAD_CHANNELS) * HEAD_CHANNELS;
        for (var j = 0u; j < HEAD_CHANNELS; j++) {
            let w = vec4<f32>(weights[row + j]);
            let at = values + vec4<u32>(j);
            for (var p = 0u; p < PIXELS; p++) {
                let b = base[p];
                let v = vec4<f32>(channel_of(b, at.x), channel_of(b, at.y), channel_of(b, at.z), channel_of(b, at.w));
                sum[p] = fma(w, v, sum[p]);
            }
        }
    }

    let live = live4(group, channels);
    for (var p = 0u; p < PIXELS; p++) {
        if x0 + p < params.width {
            let at = (id.y * params.width + x0 + p) * params.dst_groups + group;
            dst[at] = to_elem4(select(vec4<f32>(0.0), sum[p], live));
        }
    }
}
