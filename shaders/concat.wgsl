// Joins the channels of two images.
//   dst[c, y, x] = c < a ? first[c, y, x] : second[c - a, y, x]
// first [a, h, w]   second [b, h, w]   dst [a + b, h, w]   one invocation per group of four channels of a dst pixel
// With SHIFT = a % 4 = 0 groups are copied; else a dst group behind the seam is SHIFT lanes from the end of one group
// of `second` and the rest from the beginning of the next.

struct Params {
    width: u32,
    height: u32,
    first_channels: u32,
    first_groups: u32,
    second_groups: u32,
    dst_groups: u32,
}

override SHIFT: u32;

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> first: array<elem4>;
@group(0) @binding(2) var<storage, read> second: array<elem4>;
@group(0) @binding(3) var<storage, read_write> dst: array<elem4>;

// The lanes of `value` moved so that its last SHIFT lanes come first.
fn last_lanes_first(value: elem4) -> elem4 {
    switch SHIFT {
        case 1u: { return value.wxyz; }
        case 2u: { return value.zwxy; }
        case 3u: { return value.yzwx; }
        default: { return value; }
    }
}

// SHIFT lanes of `head`, then the beginning of `tail`.
fn join(head: elem4, tail: elem4) -> elem4 {
    switch SHIFT {
        case 1u: { return elem4(head.x, tail.xyz); }
        case 2u: { return elem4(head.xy, tail.xy); }
        case 3u: { return elem4(head.xyz, tail.x); }
        default: { return tail; }
    }
}

@compute @workgroup_size(8, 8, 1)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
    if id.x >= params.width || id.y >= params.height {
        return;
    }
    let pixel = id.y * params.width + id.x;
    let group = id.z;
    // Groups that are all `first`'s.
    let whole = params.first_channels / 4u;
    var value: elem4;
    if group < whole {
        value = first[pixel * params.first_groups + group];
    } else {
        let base = pixel * params.second_groups;
        // The last group may need nothing but the tail of `second`: what it then repeats is padding.
        value = second[base + min(group - whole, params.second_groups - 1u)];
        if SHIFT != 0u {
            var head: elem4;
            if group == whole {
                head = first[pixel * params.first_groups + whole];
            } else {
                head = last_lanes_first(second[base + group - whole - 1u]);
            }
            value = join(head, value);
        }
    }
    dst[pixel * params.dst_groups + group] = value;
}
