// Global pooling: the largest value or the mean of each channel over the whole image.
//   dst[c] = max or mean over y, x of src[c, y, x]
// src [channels, h, w]   dst [channels, 1, 1]   one workgroup per group of four channels
// Sums have three levels, each short, in an order that depends on the number of pixels only.

struct Params {
    pixels: u32,
    groups: u32,
}

override IS_MAX: u32;

const INVOCATIONS = 256u;
// Pixels of an invocation that are summed before they join its total.
const CHUNK = 64u;

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> src: array<elem4>;
@group(0) @binding(2) var<storage, read_write> dst: array<elem4>;

var<workgroup> totals: array<vec4<f32>, INVOCATIONS>;

fn combine(a: vec4<f32>, b: vec4<f32>) -> vec4<f32> {
    if IS_MAX == 1u {
        return max(a, b);
    }
    return a + b;
}

@compute @workgroup_size(INVOCATIONS, 1, 1)
fn main(@builtin(local_invocation_index) local: u32, @builtin(workgroup_id) workgroup: vec3<u32>) {
    let group = workgroup.x;
    // The largest value starts from some pixel, a sum from zero.
    var neutral = vec4<f32>(src[min(local, params.pixels - 1u) * params.groups + group]);
    if IS_MAX == 0u {
        neutral = vec4(0.0);
    }
    var total = neutral;
    var at = local;
    while at < params.pixels {
        var part = neutral;
        for (var i = 0u; i < CHUNK && at < params.pixels; i++) {
            part = combine(part, vec4<f32>(src[at * params.groups + group]));
            at += INVOCATIONS;
        }
        total = combine(total, part);
    }

    totals[local] = total;
    for (var step = INVOCATIONS / 2u; step > 0u; step /= 2u) {
        workgroupBarrier();
        if local < step {
            totals[local] = combine(totals[local], totals[local + step]);
        }
    }
    if local == 0u {
        var value = totals[0];
        if IS_MAX == 0u {
            value /= f32(params.pixels);
        }
        dst[group] = to_elem4(value);
    }
}
