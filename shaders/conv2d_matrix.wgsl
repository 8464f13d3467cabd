// 2-D convolution with a step of one as products of matrices that the lanes of a subgroup hold together (tensor cores):
// 16-bit factors, sums in 32 bits.
//   dst[o, y, x] = f(bias[o] + sum over i / EDGE / DEPTH, ky, kx, i % (EDGE * DEPTH) of
//                    weight[o, i, ky, kx] * src[i, y + ky*dilation - pad, ...])
// src [in, h, w]   weight [in / EDGE][ky][kx][EDGE][out, those of whole workgroups]   epilogue bias [out], then slope [out]
// dst [out, h', w'].
// A matrix of sums is EDGE pixels side by side times EDGE channels. A subgroup sums two rows of pixels times COLUMNS matrices, and
// a workgroup is SUBGROUPS subgroups below one another. What they share is copied to workgroup memory: of DEPTH matrices of input
// channels the pixels that all taps need, then the weights of TAPS taps at a time. The order of the sum is the same for every
// pixel: it gets the same bits in any tile.
// With a single tap the image is one line of pixels, given as rows of EDGE of which the last may be cut short.
// (naga does not mark what invocations share through workgroup memory as the Vulkan memory model asks for, gfx-rs/wgpu#8805;
// the host compares results before it trusts the kernel.)
// `src` may be two joined images or one with layer norm (lib/source.wgsl); a gate may end the sums (lib/store.wgsl).

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
}

override KERNEL_HEIGHT: u32;
override KERNEL_WIDTH: u32;
override DILATION_Y: u32;
override DILATION_X: u32;
override BORDER: u32;
// Matrices of output channels, at most five.
override COLUMNS: u32;
override DEPTH: u32;
// A divisor of the kernel's taps.
override TAPS: u32;

const SUBGROUPS = 4u;
const INVOCATIONS = SUBGROUPS * LANES;
const ROWS = 2u * SUBGROUPS;
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
    (ROWS + (KERNEL_HEIGHT - 1u) * DILATION_Y) * (EDGE + (KERNEL_WIDTH - 1u) * DILATION_X) * (DEPTH * GROUPS + SPARE)>;
var<workgroup> weights: array<elem4, TAPS * DEPTH * EDGE * (COLUMNS * GROUPS + SPARE)>;
// Two matrices of sums a subgroup.
var<workgroup> sums: array<vec4<f32>, 2u * SUBGROUPS * MATRIX>;

@compute @workgroup_size(INVOCATIONS, 1, 1)
fn main(
    @builtin(local_invocation_index) local: u32,
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(subgroup_id) subgroup: u32,
    @builtin(subgroup_invocation_id) lane: u32,
) {
    let x0 = workgroup.x * EDGE;
    let y0 = workgroup.y * ROWS;
    let first = workgroup.z * COLUMNS * GROUPS;
    let width = EDGE + (KERNEL_WIDTH - 1u) * DILATION_X;
    let pixel_pitch = DEPTH * GROUPS + SPARE;
    let weight_pitch = COLUMNS * GROUPS + SPARE;

    // Named one by one: an array of them might be kept in memory.
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
    for (var chunk = 0u; chunk < params.src_groups; chunk += DEPTH * GROUPS) {
        workgroupBarrier();
        share_pixels(x0, y0, chunk, local);
        for (var tap = 0u; tap < KERNEL_HEIGHT * KERNEL_WIDTH; tap += TAPS) {
            if tap > 0u {
                workgroupBarrier();
            }
            share_weights(chunk / GROUPS, tap, first, local);
            workgroupBarrier();
            for (var t = 0u; t < TAPS; t++) {
                let ky = (tap + t) / KERNEL_WIDTH;
                let kx = (tap + t) % KERNEL_WIDTH;
                let corner = ((2u * subgroup + ky * DILATION_Y) * width + kx * DILATION_X) * pixel_pitch;
                for (var d = 0u; d < DEPTH; d++) {
                    let upper = coopLoadT<Left>(&pixels[corner + d * GROUPS], pixel_pitch);
                    let lower = coopLoadT<Left>(&pixels[corner + width * pixel_pitch + d * GROUPS], pixel_pitch);
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

    let place = Target(2u * subgroup * MATRIX, lane, x0, y0 + 2u * subgroup, first);
    finish(s00, s10, place, 0u);
    if COLUMNS > 1u {
        finish(s01, s11, place, 1u);
    }
    if COLUMNS > 2u {
        finish(s02, s12, place, 2u);
    }
    if COLUMNS > 3u {
        finish(s03, s13, place, 3u);
    }
    if COLUMNS > 4u {
        finish(s04, s14, place, 4u);
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

// Copies what all taps need of DEPTH * GROUPS groups from `chunk` on.
fn share_pixels(x0: u32, y0: u32, chunk: u32, local: u32) {
    let width = EDGE + (KERNEL_WIDTH - 1u) * DILATION_X;
    let height = ROWS + (KERNEL_HEIGHT - 1u) * DILATION_Y;
    let depth = DEPTH * GROUPS;
    for (var i = local; i < width * height * depth; i += INVOCATIONS) {
        let cell = i / depth;
        let group = chunk + i % depth;
        let y = border(i32(y0 + cell / width) - params.pad_top, i32(params.src_height), BORDER);
        let x = border(i32(x0 + cell % width) - params.pad_left, i32(params.src_width), BORDER);
        var value = elem4();
        let pixel = u32(max(y, 0)) * params.src_width + u32(max(x, 0));
        if y >= 0 && x >= 0 && pixel < params.src_pixels && group < params.src_groups {
            value = to_elem4(load4(place(pixel, 1.0), group));
        }
        pixels[cell * (depth + SPARE) + i % depth] = value;
    }
}

// Copies TAPS taps of DEPTH matrices of input channels from `matrix` on, and of the workgroup's output channels.
fn share_weights(matrix: u32, tap: u32, first: u32, local: u32) {
    let across = COLUMNS * GROUPS;
    let pitch = (params.dst_groups + across - 1u) / across * across;
    for (var i = local; i < TAPS * DEPTH * EDGE * across; i += INVOCATIONS) {
        let line = i / across;
        let k = line % (DEPTH * EDGE);
        let tap_of = tap + line / (DEPTH * EDGE);
        let source = ((matrix + k / EDGE) * KERNEL_HEIGHT * KERNEL_WIDTH + tap_of) * EDGE + k % EDGE;
        weights[line * (across + SPARE) + i % across] = weight[source * pitch + first + i % across];
    }
}

// Adds the bias to the sums of both rows of one column of matrices, and stores them. (Of subgroupBarrier naga's SPIR-V does not say
// that it orders workgroup memory.)
fn finish(upper: Sum, lower: Sum, place: Target, column: u32) {
    workgroupBarrier();
    coopStoreT(upper, &sums[place.sums], GROUPS);
    coopStoreT(lower, &sums[place.sums + MATRIX], GROUPS);
    workgroupBarrier();
    for (var i = place.lane; i < 2u * MATRIX; i += LANES) {
        let y = place.y + i / MATRIX;
        let x = place.x + i % MATRIX / GROUPS;
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
