// What ends a convolution or a linear map: residual, activation, and the write. `params`, `epilogue`, `residual` and `dst`
// are the kernel's.

// 0 none, 1 added before the activation, 2 after.
override RESIDUAL: u32;

fn store(pixel: u32, group: u32, sum: vec4<f32>) {
    let at = pixel * params.dst_groups + group;
    var value = sum;
    if RESIDUAL == 1u {
        value += vec4<f32>(residual[at]);
    }
    value = activate(value, vec4<f32>(epilogue[params.dst_groups + group]));
    if RESIDUAL == 2u {
        value += vec4<f32>(residual[at]);
    }
    dst[at] = to_elem4(value);
}
