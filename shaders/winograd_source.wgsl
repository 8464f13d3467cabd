// First step of a 3x3 convolution by Winograd's F(2x2, 3x3): patches of 4x4 pixels, B' d B.
//   dst[point, patch, i] with point = 4 * y + x
// src [in, h, w]   dst [16, matrix, in], of which the first `patches` patches are written. Patches lie two pixels apart, in rows of
// `patches_x`; the first one's first pixel is at (`left`, `top`), perhaps outside the image.
// `src` may be two joined images or one with layer norm (lib/source.wgsl).

struct Params {
    src_width: u32,
    src_height: u32,
    src_groups: u32,
    left: i32,
    top: i32,
    patches_x: u32,
    patches: u32,
    // Patches from point to point.
    matrix: u32,
}

override BORDER: u32;

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> src: array<elem4>;
@group(0) @binding(2) var<storage, read> extra: array<elem4>;
@group(0) @binding(3) var<storage, read> statistics: array<vec2<f32>>;
@group(0) @binding(4) var<storage, read_write> dst: array<elem4>;

struct Four { p0: vec4<f32>, p1: vec4<f32>, p2: vec4<f32>, p3: vec4<f32> }

fn transform(d: Four) -> Four {
    return Four(d.p0 - d.p2, d.p1 + d.p2, d.p2 - d.p1, d.p1 - d.p3);
}

fn pixel(x: i32, y: i32, group: u32) -> vec4<f32> {
    let column = border(x, i32(params.src_width), BORDER);
    let at = u32(max(y, 0)) * params.src_width + u32(max(column, 0));
    return load4(place(at, select(0.0, 1.0, column >= 0 && y >= 0)), group);
}

// A row of a patch, transformed along the row.
fn row(x: i32, y: i32, group: u32) -> Four {
    let line = border(y, i32(params.src_height), BORDER);
    return transform(Four(pixel(x, line, group), pixel(x + 1, line, group), pixel(x + 2, line, group), pixel(x + 3, line, group)));
}

fn put(column: u32, place: u32, group: u32, values: Four) {
    let all = transform(values);
    let at = (column * params.matrix + place) * params.src_groups + group;
    let step = 4u * params.matrix * params.src_groups;
    dst[at] = to_elem4(all.p0);
    dst[at + step] = to_elem4(all.p1);
    dst[at + 2u * step] = to_elem4(all.p2);
    dst[at + 3u * step] = to_elem4(all.p3);
}

@compute @workgroup_size(8, 8, 1)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
    let group = id.x;
    let place = id.y;
    if group >= params.src_groups || place >= params.patches {
        return;
    }
    let x = params.left + 2 * i32(place % params.patches_x);
    let y = params.top + 2 * i32(place / params.patches_x);
    let r0 = row(x, y, group);
    let r1 = row(x, y + 1, group);
    let r2 = row(x, y + 2, group);
    let r3 = row(x, y + 3, group);
    put(0u, place, group, Four(r0.p0, r1.p0, r2.p0, r3.p0));
    put(1u, place, group, Four(r0.p1, r1.p1, r2.p1, r3.p1));
    put(2u, place, group, Four(r0.p2, r1.p2, r2.p2, r3.p2));
    put(3u, place, group, Four(r0.p3, r1.p3, r2.p3, r3.p3));
}
