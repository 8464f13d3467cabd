// Weights of channel attention: one workgroup computes four rows i of one head.
//   w[i, j] = softmax over j of temperature[head] * <q_i, k_j> / (max(|q_i|, 1e-12) * max(|k_j|, 1e-12))
// with products and norms summed over all pixels.   src q, k and v, each [heads * head_channels, pixels]
// dst [padded channels * head_channels, 1, 1]: row c = head * head_channels + i is at (c / 4 * head_channels + j) * 4 + c % 4
// An invocation owns four columns j and a slice of the pixels; slices are added in order. Sums go in blocks of blocks,
// which bounds the drift of f32 sums over millions of values.

struct Params {
    pixels: u32,
    src_groups: u32,
}

override HEADS: u32;
override HEAD_CHANNELS: u32;

const THREADS = 256u;
const BLOCK = 64u;

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> src: array<elem4>;
@group(0) @binding(2) var<storage, read> temperature: array<elem>;
@group(0) @binding(3) var<storage, read_write> dst: array<elem>;

var<workgroup> sums: array<vec4<f32>, 256>;
// Four rows of at most 64 vectors.
var<workgroup> logits: array<vec4<f32>, 256>;

// Four channels from `channel` on. Those past the head's end are another's and are not used.
fn load(pixel: u32, channel: u32) -> vec4<f32> {
    let base = pixel * params.src_groups;
    let group = channel / 4u;
    let shift = channel % 4u;
    let low = vec4<f32>(src[base + group]);
    if shift == 0u {
        return low;
    }
    return shift4(low, vec4<f32>(src[base + min(group + 1u, params.src_groups - 1u)]), shift);
}

// Sum over the slices of this invocation's columns.
fn reduce(value: vec4<f32>, local: u32, parts: u32) -> vec4<f32> {
    workgroupBarrier();
    sums[local] = value;
    workgroupBarrier();
    var total = vec4<f32>(0.0);
    for (var slice = 0u; slice < THREADS / parts; slice++) {
        total += sums[slice * parts + local % parts];
    }
    return total;
}

@compute @workgroup_size(256, 1, 1)
fn main(@builtin(workgroup_id) index: vec3<u32>, @builtin(local_invocation_index) local: u32) {
    let parts = (HEAD_CHANNELS + 3u) / 4u;
    let slices = THREADS / parts;
    let channels = HEADS * HEAD_CHANNELS;
    let head = index.y;
    let first_row = index.x * 4u;
    let part = local % parts;
    let query_channel = head * HEAD_CHANNELS + first_row;
    let key_channel = channels + head * HEAD_CHANNELS + part * 4u;

    let zero = vec4<f32>(0.0);
    var products = array<vec4<f32>, 4>(zero, zero, zero, zero);
    var query_squares = zero;
    var key_squares = zero;
    // Invocations left over by the division into slices have no pixels.
    var pixel = select(params.pixels, local / parts, local / parts < slices);
    while pixel < params.pixels {
        let end = min(params.pixels, pixel + BLOCK * slices);
        var block = array<vec4<f32>, 4>(zero, zero, zero, zero);
        var block_query = zero;
        var block_key = zero;
        for (; pixel < end; pixel += slices) {
            let q = load(pixel, query_channel);
            let k = load(pixel, key_channel);
            block[0] += q.x * k;
            block[1] += q.y * k;
            block[2] += q.z * k;
            block[3] += q.w * k;
            block_query += q * q;
            block_key += k * k;
        }
        for (var row = 0u; row < 4u; row++) {
            products[row] += block[row];
        }
        query_squares += block_query;
        key_squares += block_key;
    }

    let query_norm = max(sqrt(reduce(query_squares, local, parts)), vec4<f32>(1e-12));
    let key_norm = max(sqrt(reduce(key_squares, local, parts)), vec4<f32>(1e-12));
    let factor = f32(temperature[head]) / query_norm;
    for (var row = 0u; row < 4u; row++) {
        let product = reduce(products[row], local, parts);
        if local < parts {
            logits[row * parts + part] = product * factor[row] / key_norm;
        }
    }
    workgroupBarrier();

    for (var item = local; item < 4u * HEAD_CHANNELS; item += THREADS) {
        let row = item / HEAD_CHANNELS;
        let column = item % HEAD_CHANNELS;
        if first_row + row < HEAD_CHANNELS {
            var peak = -1e30;
            for (var j = 0u; j < HEAD_CHANNELS; j++) {
                peak = max(peak, logits[row * parts + j / 4u][j % 4u]);
            }
            var total = 0.0;
            for (var j = 0u; j < HEAD_CHANNELS; j++) {
                total += exp(max(logits[row * parts + j / 4u][j % 4u] - peak, -80.0));
            }
            let logit = logits[row * parts + column / 4u][column % 4u];
            store(query_channel + row, column, exp(max(logit - peak, -80.0)) / total);
        }
    }
    // The rows of padding lanes.
    if head == HEADS - 1u && first_row + 4u >= HEAD_CHANNELS {
        for (var channel = channels; channel % 4u != 0u; channel++) {
            for (var column = local; column < HEAD_CHANNELS; column += THREADS) {
                store(channel, column, 0.0);
            }
        }
    }
}

fn store(channel: u32, column: u32, weight: f32) {
    dst[(channel / 4u * HEAD_CHANNELS + column) * 4u + channel % 4u] = to_elem4(vec4<f32>(weight)).x;
}
