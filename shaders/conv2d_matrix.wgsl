// 2-D convolution as products of matrices that the lanes of a subgroup hold together (tensor cores): 16-bit factors, sums in 32 bits.
//   dst[o, y, x] = f(bias[o] + sum over i / EDGE / DEPTH, ky, kx, i % (EDGE * DEPTH) of
//                    weight[o, i, ky, kx] * src[i, y*stride + ky*dilation - pad, ...])
// src [in, h, w]   weight [in / EDGE][ky][kx][EDGE][out, those of whole workgroups]   epilogue bias [out], then slope [out]
// dst [out, h', w'].
// A matrix of sums is EDGE pixels side by side times EDGE channels. A subgroup sums two rows of pixels times COLUMNS matrices, and
// a workgroup is SUBGROUPS subgroups below one another. What they share is copied to workgroup memory: of DEPTH matrices of input
// channels the pixels that all taps need, then the weights of TAPS taps at a time. While one copy is summed the next is on its way,
// in registers. The order of the sum is the same for every pixel: it gets the same bits in any tile.
// With a single tap the image is one line of pixels, given as rows of EDGE of which the last may be cut short.
// (naga does not mark what invocations share through workgroup memory as the Vulkan memory model asks for, gfx-rs/wgpu#8805;
// the host compares results before it trusts the kernel.)
// `src` may be two joined images or one with layer norm (lib/source.wgsl); a gate or a pixel shuffle may follow (lib/store.wgsl).

struct Params {
    src_width: u32,
    src_height: u32,
    src_groups: u32,
    dst_width: u32,
    dst_height: u32,
    dst_groups: u32,
    pad_left: i32,
    pad_top: i32,
    // Pixels of the source and of the result.
    src_pixels: u32,
    dst_pixels: u32,
    // Of a row of `weight`.
    weight_groups: u32,
    // See lib/store.wgsl.
    line: u32,
}

override KERNEL_HEIGHT: u32;
override KERNEL_WIDTH: u32;
override STRIDE_Y: u32;
override STRIDE_X: u32;
override DILATION_Y: u32;
override DILATION_X: u32;
override BORDER: u32;
override SUBGROUPS: u32;
// Matrices of output channels, at most five.
override COLUMNS: u32;
override DEPTH: u32;
// A divisor of the kernel's taps.
override TAPS: u32;

// Groups of a matrix's row, and of a matrix.
const GROUPS = EDGE / 4u;
const MATRIX = EDGE * GROUPS;
// Groups to spare from row to row in workgroup memory, so that a matrix's rows lie in different banks.
const SPARE = 2u;

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> src: array<elem4>;
@group(0) @binding(2) var<storage, read> weight: array<elem4>;
@group(0) @binding(3) var<storage, read> epilogue: array<elem4>;
@group(0) @binding(4) var<storage, read> residual: array<elem4>;
@group(0) @binding(5) var<storage, read> extra: array<elem4>;
@group(0) @binding(6) var<storage, read> statistics: array<vec2<f32>>;
@group(0) @binding(7) var<storage, read_write> dst: array<elem4>;

var<workgroup> pixels: array<elem4,
    ((2u * SUBGROUPS - 1u) * STRIDE_Y + (KERNEL_HEIGHT - 1u) * DILATION_Y + 1u)
        * ((EDGE - 1u) * STRIDE_X + (KERNEL_WIDTH - 1u) * DILATION_X + 1u) * (DEPTH * GROUPS + SPARE)>;
var<workgroup> weights: array<elem4, TAPS * DEPTH * EDGE * (COLUMNS * GROUPS + SPARE)>;
// One matrix of sums a subgroup.
var<workgroup> sums: array<vec4<f32>, SUBGROUPS * MATRIX>;

// What an invocation copies is held by it before that, this many values of it.
const HELD_PIXELS = 8u;
const HELD_WEIGHTS = 12u;

@compute @workgroup_size(SUBGROUPS * LANES, 1, 1)
fn main(
    @builtin(local_invocation_index) local: u32,
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(subgroup_id) subgroup: u32,
    @builtin(subgroup_invocation_id) lane: u32,
) {
    let x0 = workgroup.x * EDGE;
    let y0 = workgroup.y * 2u * SUBGROUPS;
    let first = workgroup.z * COLUMNS * GROUPS;
    let corner = vec2<u32>(x0 * STRIDE_X, y0 * STRIDE_Y);
    let width = cells_wide();
    let pixel_pitch = DEPTH * GROUPS + SPARE;
    let weight_pitch = COLUMNS * GROUPS + SPARE;

    // Named one by one: an array of them is kept in memory.
    var s00 = Sum();
    var s01 = Sum();
    var s02 = Sum();
    var s03 = Sum();
    var s04 = Sum();
    var s10 = Sum();
    var s11 = Sum();
    var s12 = Sum();
    var s13 = Sum();
    var s14 = Sum();
    var held_pixels = hold_pixels(corner, 0u, local);
    var held_weights = hold_weights(0u, 0u, first, local);
    for (var chunk = 0u; chunk < params.src_groups; chunk += DEPTH * GROUPS) {
        let next_chunk = chunk + DEPTH * GROUPS;
        for (var tap = 0u; tap < KERNEL_HEIGHT * KERNEL_WIDTH; tap += TAPS) {
            workgroupBarrier();
            if tap == 0u {
                share_pixels(held_pixels, corner, chunk, local);
            }
            share_weights(held_weights, chunk / GROUPS, tap, first, local);
            workgroupBarrier();
            let is_last = tap + TAPS == KERNEL_HEIGHT * KERNEL_WIDTH;
            if !is_last {
                held_weights = hold_weights(chunk / GROUPS, tap + TAPS, first, local);
            } else if next_chunk < params.src_groups {
                held_pixels = hold_pixels(corner, next_chunk, local);
                held_weights = hold_weights(next_chunk / GROUPS, 0u, first, local);
            }
            for (var t = 0u; t < TAPS; t++) {
                let ky = (tap + t) / KERNEL_WIDTH;
                let kx = (tap + t) % KERNEL_WIDTH;
                let upper_cell = (2u * subgroup * STRIDE_Y + ky * DILATION_Y) * width + kx * DILATION_X;
                let lower_cell = upper_cell + STRIDE_Y * width;
                for (var d = 0u; d < DEPTH; d++) {
                    let upper = coopLoadT<Left>(&pixels[upper_cell * pixel_pitch + d * GROUPS], STRIDE_X * pixel_pitch);
                    let lower = coopLoadT<Left>(&pixels[lower_cell * pixel_pitch + d * GROUPS], STRIDE_X * pixel_pitch);
                    let at = (t * DEPTH + d) * EDGE * weight_pitch;
                    var w = coopLoadT<Right>(&weights[at], weight_pitch);
                    s00 = coopMultiplyAdd(upper, w, s00);
                    s10 = coopMultiplyAdd(lower, w, s10);
                    if COLUMNS > 1u {
                        w = coopLoadT<Right>(&weights[at + GROUPS], weight_pitch);
                        s01 = coopMultiplyAdd(upper, w, s01);
                        s11 = coopMultiplyAdd(lower, w, s11);
                    }
                    if COLUMNS > 2u {
                        w = coopLoadT<Right>(&weights[at + 2u * GROUPS], weight_pitch);
                        s02 = coopMultiplyAdd(upper, w, s02);
                        s12 = coopMultiplyAdd(lower, w, s12);
                    }
                    if COLUMNS > 3u {
                        w = coopLoadT<Right>(&weights[at + 3u * GROUPS], weight_pitch);
                        s03 = coopMultiplyAdd(upper, w, s03);
                        s13 = coopMultiplyAdd(lower, w, s13);
                    }
                    if COLUMNS > 4u {
                        w = coopLoadT<Right>(&weights[at + 4u * GROUPS], weight_pitch);
                        s04 = coopMultiplyAdd(upper, w, s04);
                        s14 = coopMultiplyAdd(lower, w, s14);
                    }
                }
            }
        }
    }

    let place = Target(subgroup * MATRIX, lane, x0, y0 + 2u * subgroup, first);
    finish(s00, place, 0u, 0u);
    finish(s10, place, 1u, 0u);
    if COLUMNS > 1u {
        finish(s01, place, 0u, 1u);
        finish(s11, place, 1u, 1u);
    }
    if COLUMNS > 2u {
        finish(s02, place, 0u, 2u);
        finish(s12, place, 1u, 2u);
    }
    if COLUMNS > 3u {
        finish(s03, place, 0u, 3u);
        finish(s13, place, 1u, 3u);
    }
    if COLUMNS > 4u {
        finish(s04, place, 0u, 4u);
        finish(s14, place, 1u, 4u);
    }
}

// Where a subgroup's sums go.
struct Target {
    // Of the workgroup memory.
    sums: u32,
    lane: u32,
    x: u32,
    y: u32,
    group: u32,
}

// Pixels of a row that all taps need.
fn cells_wide() -> u32 {
    return (EDGE - 1u) * STRIDE_X + (KERNEL_WIDTH - 1u) * DILATION_X + 1u;
}

// Groups of all pixels that all taps need.
fn pixel_count() -> u32 {
    return ((2u * SUBGROUPS - 1u) * STRIDE_Y + (KERNEL_HEIGHT - 1u) * DILATION_Y + 1u) * cells_wide() * DEPTH * GROUPS;
}

fn weight_count() -> u32 {
    return TAPS * DEPTH * EDGE * COLUMNS * GROUPS;
}

// Value `i` of the pixels from `corner` on, of DEPTH * GROUPS groups from `chunk` on.
fn pixel_at(i: u32, corner: vec2<u32>, chunk: u32) -> elem4 {
    let cell = i / (DEPTH * GROUPS);
    let group = chunk + i % (DEPTH * GROUPS);
    let y = border(i32(corner.y + cell / cells_wide()) - params.pad_top, i32(params.src_height), BORDER);
    let x = border(i32(corner.x + cell % cells_wide()) - params.pad_left, i32(params.src_width), BORDER);
    let pixel = u32(max(y, 0)) * params.src_width + u32(max(x, 0));
    let is_there = i < pixel_count() && y >= 0 && x >= 0 && pixel < params.src_pixels && group < params.src_groups;
    // Read in any case, so that several are on their way at once.
    let value = load4(place(min(pixel, params.src_pixels - 1u), 1.0), min(group, params.src_groups - 1u));
    return select(elem4(), to_elem4(value), is_there);
}

// Value `i` of the weights of TAPS taps from `tap` on, of DEPTH matrices of input channels from `matrix` on and of the workgroup's
// output channels.
fn weight_at(i: u32, matrix: u32, tap: u32, first: u32) -> elem4 {
    let across = COLUMNS * GROUPS;
    let line = min(i, weight_count() - 1u) / across;
    let k = line % (DEPTH * EDGE);
    let source = ((matrix + k / EDGE) * KERNEL_HEIGHT * KERNEL_WIDTH + tap + line / (DEPTH * EDGE)) * EDGE + k % EDGE;
    return weight[source * params.weight_groups + first + i % across];
}

// (Their elements are named one by one, as the sums are.)
fn hold_pixels(corner: vec2<u32>, chunk: u32, local: u32) -> array<elem4, HELD_PIXELS> {
    var held: array<elem4, HELD_PIXELS>;
    let step = SUBGROUPS * LANES;
    held[0] = pixel_at(local, corner, chunk);
    if pixel_count() > step { held[1] = pixel_at(local + step, corner, chunk); }
    if pixel_count() > 2u * step { held[2] = pixel_at(local + 2u * step, corner, chunk); }
    if pixel_count() > 3u * step { held[3] = pixel_at(local + 3u * step, corner, chunk); }
    if pixel_count() > 4u * step { held[4] = pixel_at(local + 4u * step, corner, chunk); }
    if pixel_count() > 5u * step { held[5] = pixel_at(local + 5u * step, corner, chunk); }
    if pixel_count() > 6u * step { held[6] = pixel_at(local + 6u * step, corner, chunk); }
    if pixel_count() > 7u * step { held[7] = pixel_at(local + 7u * step, corner, chunk); }
    return held;
}

fn hold_weights(matrix: u32, tap: u32, first: u32, local: u32) -> array<elem4, HELD_WEIGHTS> {
    var held: array<elem4, HELD_WEIGHTS>;
    let step = SUBGROUPS * LANES;
    held[0] = weight_at(local, matrix, tap, first);
    if weight_count() > step { held[1] = weight_at(local + step, matrix, tap, first); }
    if weight_count() > 2u * step { held[2] = weight_at(local + 2u * step, matrix, tap, first); }
    if weight_count() > 3u * step { held[3] = weight_at(local + 3u * step, matrix, tap, first); }
    if weight_count() > 4u * step { held[4] = weight_at(local + 4u * step, matrix, tap, first); }
    if weight_count() > 5u * step { held[5] = weight_at(local + 5u * step, matrix, tap, first); }
    if weight_count() > 6u * step { held[6] = weight_at(local + 6u * step, matrix, tap, first); }
    if weight_count() > 7u * step { held[7] = weight_at(local + 7u * step, matrix, tap, first); }
    if weight_count() > 8u * step { held[8] = weight_at(local + 8u * step, matrix, tap, first); }
    if weight_count() > 9u * step { held[9] = weight_at(local + 9u * step, matrix, tap, first); }
    if weight_count() > 10u * step { held[10] = weight_at(local + 10u * step, matrix, tap, first); }
    if weight_count() > 11u * step { held[11] = weight_at(local + 11u * step, matrix, tap, first); }
    return held;
}

fn share_pixel(i: u32, value: elem4) {
    if i < pixel_count() {
        pixels[i / (DEPTH * GROUPS) * (DEPTH * GROUPS + SPARE) + i % (DEPTH * GROUPS)] = value;
    }
}

fn share_weight(i: u32, value: elem4) {
    if i < weight_count() {
        weights[i / (COLUMNS * GROUPS) * (COLUMNS * GROUPS + SPARE) + i % (COLUMNS * GROUPS)] = value;
    }
}

// Copies the pixels to workgroup memory: those that are held, and what there is beyond them.
fn share_pixels(held: array<elem4, HELD_PIXELS>, corner: vec2<u32>, chunk: u32, local: u32) {
    let step = SUBGROUPS * LANES;
    share_pixel(local, held[0]);
    if pixel_count() > step { share_pixel(local + step, held[1]); }
    if pixel_count() > 2u * step { share_pixel(local + 2u * step, held[2]); }
    if pixel_count() > 3u * step { share_pixel(local + 3u * step, held[3]); }
    if pixel_count() > 4u * step { share_pixel(local + 4u * step, held[4]); }
    if pixel_count() > 5u * step { share_pixel(local + 5u * step, held[5]); }
    if pixel_count() > 6u * step { share_pixel(local + 6u * step, held[6]); }
    if pixel_count() > 7u * step { share_pixel(local + 7u * step, held[7]); }
    for (var i = local + HELD_PIXELS * step; i < pixel_count(); i += step) {
        share_pixel(i, pixel_at(i, corner, chunk));
    }
}

fn share_weights(held: array<elem4, HELD_WEIGHTS>, matrix: u32, tap: u32, first: u32, local: u32) {
    let step = SUBGROUPS * LANES;
    share_weight(local, held[0]);
    if weight_count() > step { share_weight(local + step, held[1]); }
    if weight_count() > 2u * step { share_weight(local + 2u * step, held[2]); }
    if weight_count() > 3u * step { share_weight(local + 3u * step, held[3]); }
    if weight_count() > 4u * step { share_weight(local + 4u * step, held[4]); }
    if weight_count() > 5u * step { share_weight(local + 5u * step, held[5]); }
    if weight_count() > 6u * step { share_weight(local + 6u * step, held[6]); }
    if weight_count() > 7u * step { share_weight(local + 7u * step, held[7]); }
    if weight_count() > 8u * step { share_weight(local + 8u * step, held[8]); }
    if weight_count() > 9u * step { share_weight(local + 9u * step, held[9]); }
    if weight_count() > 10u * step { share_weight(local + 10u * step, held[10]); }
    if weight_count() > 11u * step { share_weight(local + 11u * step, held[11]); }
    for (var i = local + HELD_WEIGHTS * step; i < weight_count(); i += step) {
        share_weight(i, weight_at(i, matrix, tap, first));
    }
}

// Adds the bias to one matrix of sums, of a row and a column of the subgroup's, and stores it. (Of subgroupBarrier naga's SPIR-V does
// not say that it orders workgroup memory.)
fn finish(sum: Sum, place: Target, row: u32, column: u32) {
    workgroupBarrier();
    coopStoreT(sum, &sums[place.sums], GROUPS);
    workgroupBarrier();
    let y = place.y + row;
    for (var i = place.lane; i < MATRIX; i += LANES) {
        let x = place.x + i / GROUPS;
        let group = place.group + column * GROUPS + i % GROUPS;
        let pixel = y * params.dst_width + x;
        if y < params.dst_height && x < params.dst_width && pixel < params.dst_pixels && group < params.dst_groups {
            let value = sums[place.sums + i] + vec4<f32>(epilogue[group]);
            if GATE == 0u {
                store(pixel, group, value);
            } else if group % 2u == 0u {
                store_two(pixel, group, value, sums[place.sums + i + 1u] + vec4<f32>(epilogue[group + 1u]));
            }
        }
    }
}
