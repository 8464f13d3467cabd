// Self-attention inside windows: a workgroup computes QUERIES queries of one head of one window, one per invocation.
//   dst[c, query] = sum over keys of softmax(scale[head] * <Q, K> + bias[head, query - key]) * V[c, key]
// src Q, K and V, each [heads * head_channels, h, w]   dst [heads * head_channels, h, w]
// table scale [heads], then bias [heads, 2 * WINDOW_HEIGHT - 1, 2 * WINDOW_WIDTH - 1]   COSINE: Q and K normalised
// Windows are clipped at the image's border. Keys and values are staged in workgroup memory, some at a time, and the
// softmax is kept online, four keys at a time, so no matrix of scores exists. Keys go in row-major order of the window
// whatever the tile.

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
override QUERIES: u32;

// Vectors of keys, and behind them as many of values, in workgroup memory.
const STAGED = 256u;

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> src: array<elem4>;
@group(0) @binding(2) var<storage, read> table: array<elem>;
@group(0) @binding(3) var<storage, read_write> dst: array<elem>;

var<workgroup> staged: array<vec4<f32>, 512>;

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

// A key's column in its window, and where its bias stands in the table.
struct Key {
    x: u32,
    bias: u32,
}

// The next key in row-major order; a division for each key took longer than its products.
fn next(key: Key, columns: u32) -> Key {
    let wraps = key.x + 1u == columns;
    return Key(select(key.x + 1u, 0u, wraps), key.bias - select(1u, 2u * WINDOW_WIDTH - columns, wraps));
}

@compute @workgroup_size(QUERIES, 1, 1)
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
    var key = Key(0u, bias + (y + WINDOW_HEIGHT - 1u) * bias_width + x + WINDOW_WIDTH - 1u);
    // The largest score so far, and sums relative to it.
    var peak = -1e30;
    var total = 0.0;
    let staged_keys = STAGED / parts / 4u * 4u;
    for (var first = 0u; first < tokens; first += staged_keys) {
        let count = min(staged_keys, tokens - first);
        workgroupBarrier();
        // Up to whole fours: what no key fills must be a number.
        for (var item = local; item < (count + 3u) / 4u * 4u * parts; item += QUERIES) {
            let token = min(first + item / parts, tokens - 1u);
            let part = item % parts;
            let token_pixel = (top + token / columns) * params.width + left + token % columns;
            let channel = channels + head_channel + part * 4u;
            staged[item] = load(token_pixel, channel, part);
            staged[STAGED + item] = load(token_pixel, channel + channels, part);
        }
        workgroupBarrier();
        if COSINE == 1u {
            for (var k = local; k < count; k += QUERIES) {
                var sum = 0.0;
                for (var item = k * parts; item < (k + 1u) * parts; item++) {
                    sum += dot(staged[item], staged[item]);
                }
                let factor = 1.0 / max(sqrt(sum), 1e-12);
                for (var item = k * parts; item < (k + 1u) * parts; item++) {
                    staged[item] *= factor;
                }
            }
            workgroupBarrier();
        }

        for (var k = 0u; k < count; k += 4u) {
            let exists = vec4<u32>(k, k + 1u, k + 2u, k + 3u) < vec4<u32>(count);
            let second = next(key, columns);
            let third = next(second, columns);
            let fourth = next(third, columns);
            let biases = select(vec4<u32>(0u), vec4<u32>(key.bias, second.bias, third.bias, fourth.bias), exists);
            key = next(fourth, columns);
            var scores = vec4<f32>(f32(table[biases.x]), f32(table[biases.y]), f32(table[biases.z]), f32(table[biases.w]));
            for (var part = 0u; part < parts; part++) {
                scores += q[part] * four(k * parts + part, parts, local);
            }
            scores = select(vec4<f32>(-1e30), scores, exists);
            // The clamps keep exp away from what WGSL leaves open; exp(-80) is nothing beside the peak's 1.
            let higher = max(peak, max(max(scores.x, scores.y), max(scores.z, scores.w)));
            let shrink = exp(max(peak - higher, -80.0));
            peak = higher;
            let weights = select(vec4<f32>(0.0), exp(max(scores - peak, vec4<f32>(-80.0))), exists);
            total = total * shrink + dot(weights, vec4<f32>(1.0));
            for (var part = 0u; part < parts; part++) {
                result[part] = result[part] * shrink + four(STAGED + k * parts + part, parts, local) * weights;
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
