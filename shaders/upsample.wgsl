// Enlarges an image by whole factors: nearest, or bilinear with or without aligned corners.
//   dst[c, y, x] = sum over the four source pixels around (position(y), position(x)) of weight * src[c, ...]
// or that combined with `other`: alpha * other + beta * that (COMBINE 1), other * that (2); and then with `second`, enlarged alike:
// then_alpha * what is so far + then_beta * that (THEN 1), what is so far * that (2). JOINED 1: `second` is `src`, of which it has the
// latter half of the channels.
// src, second [channels, h, w]   other, dst [channels, h*scale, w*scale]   one invocation per dst pixel: the integer divisions of its
// position cost more than the arithmetic of its channels.
// Positions are computed in the whole image, as exact fractions, and then moved into the tile: a pixel gets the same
// weights in every tile.

struct Params {
    src_width: u32,
    src_height: u32,
    // The tile's first pixel in the whole image.
    src_left: u32,
    src_top: u32,
    // The whole source's size.
    full_width: u32,
    full_height: u32,
    dst_width: u32,
    dst_height: u32,
    dst_left: u32,
    dst_top: u32,
    src_groups: u32,
    groups: u32,
    channels: u32,
    alpha: f32,
    beta: f32,
    then_alpha: f32,
    then_beta: f32,
}

override SCALE_Y: u32;
override SCALE_X: u32;
// 0 nearest, 1 bilinear, 2 bilinear with aligned corners.
override MODE: u32;
override COMBINE: u32;
override THEN: u32;
override JOINED: u32;

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> src: array<elem4>;
@group(0) @binding(2) var<storage, read> other: array<elem4>;
@group(0) @binding(3) var<storage, read> second: array<elem4>;
@group(0) @binding(4) var<storage, read_write> dst: array<elem4>;

struct Taps {
    low: u32,
    high: u32,
    // Of `high`.
    weight: f32,
}

// The source pixels around dst pixel `position` of the whole image, as indices into a tile of `size` pixels at `origin`.
fn taps(position: u32, scale: u32, full: u32, origin: u32, size: u32) -> Taps {
    var numerator = position;
    var denominator = scale;
    if MODE == 1u {
        // (position + 0.5) / scale - 0.5, not below zero.
        numerator = max(2u * position + 1u, scale) - scale;
        denominator = 2u * scale;
    } else if MODE == 2u {
        numerator = position * (full - 1u);
        denominator = max(full * scale - 1u, 1u);
    }
    let low = min(numerator / denominator, full - 1u);
    let high = min(low + 1u, full - 1u);
    // Pixels that the tile does not hold are asked for by junk pixels only, but must not be read outside it.
    return Taps(
        min(max(low, origin) - origin, size - 1u),
        min(max(high, origin) - origin, size - 1u),
        f32(numerator % denominator) / f32(denominator),
    );
}

// First elements of the four source pixels around a dst pixel.
struct Corners {
    top_left: u32,
    top_right: u32,
    bottom_left: u32,
    bottom_right: u32,
}

// Of the second source or the first.
fn source(of_second: bool, at: u32) -> vec4<f32> {
    if of_second {
        return vec4<f32>(second[at]);
    }
    return vec4<f32>(src[at]);
}

fn enlarged(of_second: bool, corners: Corners, g: u32, down: f32, across: f32) -> vec4<f32> {
    let top_left = source(of_second, corners.top_left + g);
    if MODE == 0u {
        return top_left;
    }
    let top = (1.0 - across) * top_left + across * source(of_second, corners.top_right + g);
    let bottom = (1.0 - across) * source(of_second, corners.bottom_left + g)
        + across * source(of_second, corners.bottom_right + g);
    return (1.0 - down) * top + down * bottom;
}

@compute @workgroup_size(8, 8, 1)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
    if id.x >= params.dst_width || id.y >= params.dst_height {
        return;
    }
    let rows = taps(params.dst_top + id.y, SCALE_Y, params.full_height, params.src_top, params.src_height);
    let columns = taps(params.dst_left + id.x, SCALE_X, params.full_width, params.src_left, params.src_width);
    let corners = Corners(
        (rows.low * params.src_width + columns.low) * params.src_groups,
        (rows.low * params.src_width + columns.high) * params.src_groups,
        (rows.high * params.src_width + columns.low) * params.src_groups,
        (rows.high * params.src_width + columns.high) * params.src_groups,
    );
    let to = (id.y * params.dst_width + id.x) * params.groups;
    for (var g = 0u; g < params.groups; g++) {
        var value = enlarged(false, corners, g, rows.weight, columns.weight);
        if COMBINE > 0u {
            value = combine(COMBINE, vec4<f32>(other[to + g]), params.alpha, value, params.beta);
            if THEN > 0u {
                let more = enlarged(true, corners, JOINED * params.groups + g, rows.weight, columns.weight);
                value = combine(THEN, value, params.then_alpha, more, params.then_beta);
            }
            // Padding lanes are set to zero, as in `binary`.
            value = select(vec4<f32>(0.0), value, live4(g, params.channels));
        }
        dst[to + g] = to_elem4(value);
    }
}
