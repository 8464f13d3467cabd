// 2-D convolution of every channel by itself: one invocation computes four channels of a pixel, with a gate four of either half.
//   dst[c, y, x] = f(bias[c] + sum over ky, kx of weight[c, ky, kx] * src[c, y*stride + ky*dilation - pad, ...])
// src [channels, h, w]   weight [kh * kw, channels]   epilogue bias, then slope   dst [channels, h', w']

struct Params {
    src_width: u32,
    src_height: u32,
    src_groups: u32,
    dst_width: u32,
    dst_height: u32,
    dst_groups: u32,
    pad_left: i32,
    pad_top: i32,
    // Unused here.
    group: u32,
    block: u32,
    row: u32,
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
// With a gate the channels of one half of the source.
override HALF: u32;

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> src: array<elem4>;
@group(0) @binding(2) var<storage, read> weight: array<elem4>;
@group(0) @binding(3) var<storage, read> epilogue: array<elem4>;
@group(0) @binding(4) var<storage, read> residual: array<elem4>;
@group(0) @binding(5) var<storage, read_write> dst: array<elem4>;

// Four channels from group `first`, lane `shift` of the source on, with the weights of group `group`.
fn convolve(id: vec3<u32>, group: u32, first: u32, shift: u32) -> vec4<f32> {
    var value = vec4<f32>(epilogue[group]);
    for (var ky = 0u; ky < KERNEL_HEIGHT; ky++) {
        let row = border(i32(id.y * STRIDE_Y + ky * DILATION_Y) - params.pad_top, i32(params.src_height), BORDER);
        if row < 0 {
            continue;
        }
        for (var kx = 0u; kx < KERNEL_WIDTH; kx++) {
            let column = border(i32(id.x * STRIDE_X + kx * DILATION_X) - params.pad_left, i32(params.src_width), BORDER);
            if column >= 0 {
                let pixel = (u32(row) * params.src_width + u32(column)) * params.src_groups;
                var source = vec4<f32>(src[pixel + first]);
                if shift > 0u {
                    // Past the last group only padding lanes would be read.
                    source = shift4(source, vec4<f32>(src[pixel + min(first + 1u, params.src_groups - 1u)]), shift);
                }
                value = fma(vec4<f32>(weight[(ky * KERNEL_WIDTH + kx) * params.dst_groups + group]), source, value);
            }
        }
    }
    return value;
}

@compute @workgroup_size(8, 8, 1)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
    if id.x >= params.dst_width || id.y >= params.dst_height {
        return;
    }
    let pixel = id.y * params.dst_width + id.x;
    if GATE == 1u {
        let first = convolve(id, 2u * id.z, id.z, 0u);
        let second = convolve(id, 2u * id.z + 1u, HALF / 4u + id.z, HALF % 4u);
        store_two(pixel, 2u * id.z, first, second);
    } else {
        store(pixel, id.z, convolve(id, id.z, id.z, 0u));
    }
}
