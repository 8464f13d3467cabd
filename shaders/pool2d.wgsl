// Pooling: the largest value or the mean of each window.
//   dst[c, y, x] = max or mean over ky, kx of src[c, y*stride + ky - pad_top, x*stride + kx - pad_left]
// src [channels, h, w]   dst [channels, h', w']   one invocation per group of four channels of a dst pixel
// Windows are cut to the image first: padding is smaller than the kernel, so what remains is never empty.

struct Params {
    src_width: u32,
    src_height: u32,
    dst_width: u32,
    dst_height: u32,
    groups: u32,
    pad_left: u32,
    pad_top: u32,
}

override KERNEL_HEIGHT: u32;
override KERNEL_WIDTH: u32;
override STRIDE_Y: u32;
override STRIDE_X: u32;
override IS_MAX: u32;
override COUNT_INCLUDE_PAD: u32;

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> src: array<elem4>;
@group(0) @binding(2) var<storage, read_write> dst: array<elem4>;

@compute @workgroup_size(8, 8, 1)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
    if id.x >= params.dst_width || id.y >= params.dst_height {
        return;
    }
    let top = max(id.y * STRIDE_Y, params.pad_top) - params.pad_top;
    let bottom = min(id.y * STRIDE_Y + KERNEL_HEIGHT - params.pad_top, params.src_height);
    let left = max(id.x * STRIDE_X, params.pad_left) - params.pad_left;
    let right = min(id.x * STRIDE_X + KERNEL_WIDTH - params.pad_left, params.src_width);

    var value = vec4<f32>(src[(top * params.src_width + left) * params.groups + id.z]);
    if IS_MAX == 0u {
        value = vec4(0.0);
    }
    for (var y = top; y < bottom; y++) {
        for (var x = left; x < right; x++) {
            let next = vec4<f32>(src[(y * params.src_width + x) * params.groups + id.z]);
            if IS_MAX == 1u {
                value = max(value, next);
            } else {
                value += next;
            }
        }
    }
    if IS_MAX == 0u {
        let count = select((bottom - top) * (right - left), KERNEL_HEIGHT * KERNEL_WIDTH, COUNT_INCLUDE_PAD == 1u);
        value /= f32(count);
    }
    dst[(id.y * params.dst_width + id.x) * params.groups + id.z] = to_elem4(value);
}
