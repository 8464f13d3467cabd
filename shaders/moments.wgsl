// Mean and 1 / sqrt(variance + eps) over all pixels and the channels of a group: one workgroup per group.
//   mean = sum src / count      variance = sum (src - mean)^2 / count      count = pixels * channels of the group
// src [channels, pixels]   dst mean and rstd of each channel in turn, [2 * channels, 1, 1]
// PER_CHANNEL: groups of one channel; a workgroup then serves the four lanes of one vector.
// Two passes, each summed in blocks of blocks, which bounds the drift of f32 sums over millions of values.

struct Params {
    pixels: u32,
    src_groups: u32,
    channels: u32,
    // Channels that a workgroup serves.
    group_channels: u32,
    eps: f32,
}

override PER_CHANNEL: u32;

const THREADS = 256u;
const BLOCK = 128u;

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> src: array<elem4>;
@group(0) @binding(2) var<storage, read_write> dst: array<elem>;

var<workgroup> sums: array<vec4<f32>, 256>;
var<workgroup> columns: array<vec4<f32>, 16>;

// Sum over the group's elements in this invocation's share of (src - center) or of its square.
fn share(first: u32, last: u32, local: u32, center: vec4<f32>, squared: bool) -> vec4<f32> {
    let zero = vec4<f32>(0.0);
    let start = first / 4u;
    let vectors = (last - 1u) / 4u + 1u - start;
    let pixels = params.pixels;
    var total = zero;
    // Vectors of four lanes outside, pixels inside: no division for each element.
    for (var v = 0u; v < vectors; v++) {
        let live = live4(start + v, last) & !live4(start + v, first);
        var pixel = local;
        while pixel < pixels {
            let end = min(pixels, pixel + BLOCK * THREADS);
            var block = zero;
            for (; pixel < end; pixel += THREADS) {
                let d = select(zero, vec4<f32>(src[pixel * params.src_groups + start + v]) - center, live);
                block += select(d, d * d, squared);
            }
            total += block;
        }
    }
    return total;
}

// Sum of all invocations' values; for every invocation. In two steps of 16, as a software driver pays more for each of a
// halving's eight barriers than for all additions.
fn reduce(value: vec4<f32>, local: u32) -> vec4<f32> {
    sums[local] = value;
    workgroupBarrier();
    if local < 16u {
        var column = vec4<f32>(0.0);
        for (var i = local; i < THREADS; i += 16u) {
            column += sums[i];
        }
        columns[local] = column;
    }
    workgroupBarrier();
    var sum = vec4<f32>(0.0);
    for (var i = 0u; i < 16u; i++) {
        sum += columns[i];
    }
    if PER_CHANNEL == 1u {
        return sum;
    }
    return vec4<f32>(sum.x + sum.y + sum.z + sum.w);
}

@compute @workgroup_size(256, 1, 1)
fn main(@builtin(workgroup_id) index: vec3<u32>, @builtin(local_invocation_index) local: u32) {
    let first = index.x * params.group_channels;
    let last = min(first + params.group_channels, params.channels);
    // In f32: the product may exceed 32 bits.
    var count = f32(params.pixels);
    if PER_CHANNEL == 0u {
        count *= f32(params.group_channels);
    }
    let mean = reduce(share(first, last, local, vec4<f32>(0.0), false), local) / count;
    let variance = reduce(share(first, last, local, mean, true), local) / count;
    let rstd = 1.0 / sqrt(variance + params.eps);

    let means = to_elem4(mean);
    let rstds = to_elem4(rstd);
    for (var channel = first + local; channel < last; channel += THREADS) {
        // Of a whole group all four lanes are the same.
        let lane = (channel - first) % 4u;
        dst[2u * channel] = means[lane];
        dst[2u * channel + 1u] = rstds[lane];
    }
    // Of an odd number of channels the last vector has two lanes of padding.
    if local == 0u && last == params.channels && last % 2u == 1u {
        dst[2u * last] = elem(0.0);
        dst[2u * last + 1u] = elem(0.0);
    }
}
