// Self-attention inside windows: a workgroup computes 64 queries of one head of one window, one per invocation.
//   dst[c, query] = sum over keys of softmax(scale[head] * <Q, K> + bias[head, query - key]) * V[c, key]
// src Q, K and V, each [heads * head_channels, h, w]   dst [heads * head_channels, h, w]
// table scale [heads], then bias [heads, 2 * WINDOW_HEIGHT - 1, 2 * WINDOW_WIDTH - 1]   COSINE: Q and K normalised
// Windows are clipped at the image's border. Keys and values are staged in workgroup memory, a few at a time, and the
// softmax is kept online, so no matrix of scores exists. Keys go in row-major order of the window whatever the tile.

struct Params {
    width: u32,
    height: u32,
    src_groups: u32,
    dst_groups: u32,
    // Where the first window starts, at most zero: it may stand over the border.
    start_x: i32,
    start_y: i32,
}

override HEADS: u32;
override HEAD_CHANNELS: u32;
override WINDOW_HEIGHT: u32;
override WINDOW_WIDTH: u32;
override COSINE: u32;

const QUERIES = 64u;
// Vectors of keys, and as many of values, in workgroup memory.
const STAGED = 256u;

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> src: array<elem4>;
@group(0) @binding(2) var<storage, read> table: array<elem>;
@group(0) @binding(3) var<storage, read_write> dst: array<elem>;

var<workgroup> keys: array<vec4<f32>, 256>;
var<workgroup> values: array<vec4<f32>, 256>;

// Four channels from `channel` on, the part `part` of a head; what is past the head's end is zero.
fn load(pixel: u32, channel: u32, part: u32) -> vec4<f32> {
    let base = pixel * params.src_groups;
    let group = channel / 4u;
    let shift = channel % 4u;
    var value = vec4<f32>(src[base + group]);
    if shift != 0u {
        value = shift4(value, vec4<f32>(src[base + min(group + 1u, params.src_groups - 1u)]), shift);
    }
    return select(vec4<f32>(0.0), value, live4(part, HEAD_CHANNELS));
}

@compute @workgroup_size(64, 1, 1)
fn main(@builtin(workgroup_id) index: vec3<u32>, @builtin(local_invocation_index) local: u32) {
    let parts = (HEAD_CHANNELS + 3u) / 4u;
    let channels = HEADS * HEAD_CHANNELS;
    let head = index.z % HEADS;
    let head_channel = head * HEAD_CHANNELS;
    let first_query = index.z / HEADS * QUERIES;

    let grid_x = params.start_x + i32(index.x * WINDOW_WIDTH);
    let grid_y = params.start_y + i32(index.y * WINDOW_HEIGHT);
    let left = u32(max(grid_x, 0));
    let top = u32(max(grid_y, 0));
    let columns = min(u32(grid_x + i32(WINDOW_WIDTH)), params.width) - left;
    let rows = min(u32(grid_y + i32(WINDOW_HEIGHT)), params.height) - top;
    let tokens = rows * columns;
    // The same for the whole workgroup: barriers follow.
    if first_query >= tokens {
        return;
    }
    // Invocations without a query repeat the last one and do not store it.
    let query = min(first_query + local, tokens - 1u);
    let y = query / columns;
    let x = query % columns;
    let pixel = (top + y) * params.width + left + x;

    var q: array<vec4<f32>, 16>;
    var result: array<vec4<f32>, 16>;
    var squares = 0.0;
    for (var part = 0u; part < parts; part++) {
        q[part] = load(pixel, head_channel + part * 4u, part);
        squares += dot(q[part], q[part]);
        result[part] = vec4<f32>(0.0);
    }
    var scale = f32(table[head]);
    if COSINE == 1u {
        scale /= max(sqrt(squares), 1e-12);
    }
    for (var part = 0u; part < parts; part++) {
        q[part] *= scale;
    }

    let bias_width = 2u * WINDOW_WIDTH - 1u;
    let bias = HEADS + head * (2u * WINDOW_HEIGHT - 1u) * bias_width;
    // The largest score so far, and sums relative to it.
    var peak = -1e30;
    var total = 0.0;
    let staged_keys = STAGED / parts;
    for (var first = 0u; first < tokens; first += staged_keys) {
        let count = min(staged_keys, tokens - first);
        workgroupBarrier();
        for (var item = local; item < count * parts; item += QUERIES) {
            let key = first + item / parts;
            let part = item % parts;
            let key_pixel = (top + key / columns) * params.width + left + key % columns;
            let channel = channels + head_channel + part * 4u;
            keys[item] = load(key_pixel, channel, part);
            values[item] = load(key_pixel, channel + channels, part);
        }
        workgroupBarrier();
        if COSINE == 1u {
            for (var key = local; key < count; key += QUERIES) {
                var sum = 0.0;
                for (var item = key * parts; item < (key + 1u) * parts; item++) {
                    sum += dot(keys[item], keys[item]);
                }
                let factor = 1.0 / max(sqrt(sum), 1e-12);
                for (var item = key * parts; item < (key + 1u) * parts; item++) {
                    keys[item] *= factor;
                }
            }
            workgroupBarrier();
        }

        for (var k = 0u; k < count; k++) {
            let key = first + k;
            let at = (y + WINDOW_HEIGHT - 1u - key / columns) * bias_width + x + WINDOW_WIDTH - 1u - key % columns;
            var score = f32(table[bias + at]);
            for (var part = 0u; part < parts; part++) {
                score += dot(q[part], keys[k * parts + part]);
            }
            if score > peak {
                // The clamp keeps exp away from what WGSL leaves open; exp(-80) is nothing beside the peak's 1.
                let shrink = exp(max(peak - score, -80.0));
                peak = score;
                total *= shrink;
                for (var part = 0u; part < parts; part++) {
                    result[part] *= shrink;
                }
            }
            let weight = exp(max(score - peak, -80.0));
            total += weight;
            for (var part = 0u; part < parts; part++) {
                result[part] += weight * values[k * parts + part];
            }
        }
    }

    if first_query + local >= tokens {
        return;
    }
    // Lane by lane: a vector may belong to two heads, that is, to two workgroups.
    let lanes = params.dst_groups * 4u;
    let base = pixel * lanes;
    for (var part = 0u; part < parts; part++) {
        let value = to_elem4(result[part] / total);
        for (var lane = 0u; lane < min(4u, HEAD_CHANNELS - part * 4u); lane++) {
            dst[base + head_channel + part * 4u + lane] = value[lane];
        }
    }
    if head == HEADS - 1u {
        for (var channel = channels; channel < lanes; channel++) {
            dst[base + channel] = elem(0.0);
        }
    }
}
