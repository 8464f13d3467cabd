// 2-D convolution with a step of one as products of matrices that the lanes of a subgroup hold together (tensor cores):
// 16-bit factors, sums in 32 bits.
//   dst[o, y, x] = f(bias[o] + sum over i / EDGE, ky, kx, i % EDGE of weight[o, i, ky, kx] * src[i, y + ky*dilation - pad, ...])
// src [in, h, w]   weight as matrices [in / EDGE][ky][kx][out / EDGE][EDGE][EDGE]   epilogue bias [out], then slope [out]
// dst [out, h', w']. A workgroup sums EDGE columns x 8 rows of pixels x COLUMNS * EDGE channels; each of its subgroups two rows.
// The pixels that all taps need are copied to workgroup memory, EDGE channels at a time. The order of the sum is the same for
// every pixel: it gets the same bits in any tile.
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
// Matrices of output channels, at most four.
override COLUMNS: u32;

const SUBGROUPS = 4u;
const INVOCATIONS = SUBGROUPS * LANES;
const ROWS = 2u * SUBGROUPS;
// Groups of a matrix's row.
const GROUPS = EDGE / 4u;
// Groups from pixel to pixel: two to spare, so that a matrix's rows lie in different banks.
const PITCH = GROUPS + 2u;
const MATRIX = EDGE * GROUPS;

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> src: array<elem4>;
@group(0) @binding(2) var<storage, read> weight: array<elem4>;
@group(0) @binding(3) var<storage, read> epilogue: array<elem4>;
@group(0) @binding(4) var<storage, read> residual: array<elem4>;
@group(0) @binding(5) var<storage, read> extra: array<elem4>;
@group(0) @binding(6) var<storage, read> statistics: array<vec2<f32>>;
@group(0) @binding(7) var<storage, read_write> dst: array<elem4>;

// What 5x5 taps meet.
var<workgroup> pixels: array<elem4, (ROWS + 4u) * (EDGE + 4u) * PITCH>;
// First the bias, a row for every pixel; in the end one matrix of sums a subgroup.
var<workgroup> sums: array<vec4<f32>, SUBGROUPS * MATRIX>;

fn begin(column: u32) -> Sum {
    return coopLoadT<Sum>(&sums[column * GROUPS], SUBGROUPS * GROUPS);
}

@compute @workgroup_size(INVOCATIONS, 1, 1)
fn main(
    @builtin(local_invocation_index) local: u32,
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(subgroup_id) subgroup: u32,
) {
    let x0 = workgroup.x * EDGE;
    let y0 = workgroup.y * ROWS;
    let first = workgroup.z * COLUMNS * GROUPS;

    for (var i = local; i < SUBGROUPS * MATRIX; i += INVOCATIONS) {
        let group = first + i % (SUBGROUPS * GROUPS);
        sums[i] = vec4<f32>(epilogue[min(group, params.dst_groups - 1u)]);
    }
    workgroupBarrier();
    var s00 = begin(0u);
    var s01 = begin(1u);
    var s02 = begin(2u);
    var s03 = begin(3u);
    var s10 = s00;
    var s11 = s01;
    var s12 = s02;
    var s13 = s03;

    let width = EDGE + (KERNEL_WIDTH - 1u) * DILATION_X;
    let height = ROWS + (KERNEL_HEIGHT - 1u) * DILATION_Y;
    var at = workgroup.z * COLUMNS * MATRIX;
    // From tap to tap: all matrices of output channels.
    let next = (params.dst_groups + COLUMNS * GROUPS - 1u) / (COLUMNS * GROUPS) * COLUMNS * MATRIX;
    for (var chunk = 0u; chunk < params.src_groups; chunk += GROUPS) {
        workgroupBarrier();
        for (var i = local; i < width * height * GROUPS; i += INVOCATIONS) {
            let cell = i / GROUPS;
            let group = chunk + i % GROUPS;
            let y = border(i32(y0 + cell / width) - params.pad_top, i32(params.src_height), BORDER);
            let x = border(i32(x0 + cell % width) - params.pad_left, i32(params.src_width), BORDER);
            var value = elem4();
            let pixel = u32(max(y, 0)) * params.src_width + u32(max(x, 0));
            if y >= 0 && x >= 0 && pixel < params.src_pixels && group < params.src_groups {
                value = to_elem4(load4(place(pixel, 1.0), group));
            }
            pixels[cell * PITCH + i % GROUPS] = value;
        }
        workgroupBarrier();
        for (var ky = 0u; ky < KERNEL_HEIGHT; ky++) {
            for (var kx = 0u; kx < KERNEL_WIDTH; kx++) {
                let place = ((2u * subgroup + ky * DILATION_Y) * width + kx * DILATION_X) * PITCH;
                let upper = coopLoadT<Left>(&pixels[place], PITCH);
                let lower = coopLoadT<Left>(&pixels[place + width * PITCH], PITCH);
                var w = coopLoadT<Right>(&weight[at], GROUPS);
                s00 = coopMultiplyAdd(upper, w, s00);
                s10 = coopMultiplyAdd(lower, w, s10);
                if COLUMNS > 1u {
                    w = coopLoadT<Right>(&weight[at + MATRIX], GROUPS);
                    s01 = coopMultiplyAdd(upper, w, s01);
                    s11 = coopMultiplyAdd(lower, w, s11);
                }
                if COLUMNS > 2u {
                    w = coopLoadT<Right>(&weight[at + 2u * MATRIX], GROUPS);
                    s02 = coopMultiplyAdd(upper, w, s02);
                    s12 = coopMultiplyAdd(lower, w, s12);
                }
                if COLUMNS > 3u {
                    w = coopLoadT<Right>(&weight[at + 3u * MATRIX], GROUPS);
                    s03 = coopMultiplyAdd(upper, w, s03);
                    s13 = coopMultiplyAdd(lower, w, s13);
                }
                at += next;
            }
        }
    }

    finish(s00, local, subgroup, x0, y0, first);
    finish(s10, local, subgroup, x0, y0 + 1u, first);
    if COLUMNS > 1u {
        finish(s01, local, subgroup, x0, y0, first + GROUPS);
        finish(s11, local, subgroup, x0, y0 + 1u, first + GROUPS);
    }
    if COLUMNS > 2u {
        finish(s02, local, subgroup, x0, y0, first + 2u * GROUPS);
        finish(s12, local, subgroup, x0, y0 + 1u, first + 2u * GROUPS);
    }
    if COLUMNS > 3u {
        finish(s03, local, subgroup, x0, y0, first + 3u * GROUPS);
        finish(s13, local, subgroup, x0, y0 + 1u, first + 3u * GROUPS);
    }
}

// Stores one matrix of every subgroup: rows `y`, `y + 2`, ... from column `x0` on, channels from `first` on.
fn finish(sum: Sum, local: u32, subgroup: u32, x0: u32, y: u32, first: u32) {
    workgroupBarrier();
    coopStoreT(sum, &sums[subgroup * MATRIX], GROUPS);
    workgroupBarrier();
    for (var i = local; i < SUBGROUPS * MATRIX; i += INVOCATIONS) {
        let row = y + 2u * (i / MATRIX);
        let x = x0 + i % MATRIX / GROUPS;
        let group = first + i % GROUPS;
        let pixel = row * params.dst_width + x;
        if row < params.dst_height && x < params.dst_width && pixel < params.dst_pixels && group < params.dst_groups {
            if GATE == 0u {
                store(pixel, group, sums[i]);
            } else if group % 2u == 0u {
                store_two(pixel, group, sums[i], sums[i + 1u]);
            }
        }
    }
}
