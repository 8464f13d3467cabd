// Last step of a 3x3 convolution by Winograd's F(2x2, 3x3): of the 16 products of each patch the four pixels A' m A, with bias,
// residual and activation.
// src [16, matrix, out]   epilogue bias [out], then slope [out]   dst [out, h', w']
// Each of the four pixels is a sum of those products that its own nine pixels went into: it gets the same bits in any tile.
// With a gate an invocation takes two groups.

struct Params {
    dst_width: u32,
    dst_height: u32,
    dst_groups: u32,
    // Where the first patch begins; before the image it wraps around.
    left: u32,
    top: u32,
    patches_x: u32,
    patches: u32,
    // Patches from point to point.
    matrix: u32,
    // See lib/store.wgsl.
    line: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> src: array<elem4>;
@group(0) @binding(2) var<storage, read> epilogue: array<elem4>;
@group(0) @binding(3) var<storage, read> residual: array<elem4>;
@group(0) @binding(4) var<storage, read_write> dst: array<elem4>;

// Two results of a line of four products.
struct Two { first: vec4<f32>, second: vec4<f32> }

fn transform(p0: vec4<f32>, p1: vec4<f32>, p2: vec4<f32>, p3: vec4<f32>) -> Two {
    return Two(p0 + p1 + p2, p1 - p2 - p3);
}

fn product(point: u32, place: u32, group: u32) -> vec4<f32> {
    return vec4<f32>(src[(point * params.matrix + place) * params.dst_groups + group]);
}

fn column(x: u32, place: u32, group: u32) -> Two {
    return transform(
        product(x, place, group),
        product(x + 4u, place, group),
        product(x + 8u, place, group),
        product(x + 12u, place, group),
    );
}

// The four pixels of a patch.
struct Patch { upper: Two, lower: Two }

fn patch_of(place: u32, group: u32) -> Patch {
    let c0 = column(0u, place, group);
    let c1 = column(1u, place, group);
    let c2 = column(2u, place, group);
    let c3 = column(3u, place, group);
    return Patch(transform(c0.first, c1.first, c2.first, c3.first), transform(c0.second, c1.second, c2.second, c3.second));
}

// Of the second group only with a gate.
fn put(x: u32, y: u32, group: u32, first: vec4<f32>, second: vec4<f32>) {
    if x < params.dst_width && y < params.dst_height {
        let pixel = y * params.dst_width + x;
        let value = first + vec4<f32>(epilogue[group]);
        if GATE == 1u {
            store_two(pixel, group, value, second + vec4<f32>(epilogue[group + 1u]));
        } else {
            store(pixel, group, value);
        }
    }
}

@compute @workgroup_size(8, 8, 1)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
    let group = id.x * (1u + GATE);
    let place = id.y;
    if group >= params.dst_groups || place >= params.patches {
        return;
    }
    let x = params.left + 2u * (place % params.patches_x);
    let y = params.top + 2u * (place / params.patches_x);
    let first = patch_of(place, group);
    var second: Patch;
    if GATE == 1u {
        second = patch_of(place, group + 1u);
    }
    put(x, y, group, first.upper.first, second.upper.first);
    put(x + 1u, y, group, first.upper.second, second.upper.second);
    put(x, y + 1u, group, first.lower.first, second.lower.first);
    put(x + 1u, y + 1u, group, first.lower.second, second.lower.second);
}
