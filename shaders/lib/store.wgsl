// What ends a convolution or a linear map: residual, activation, gate, and the write. `params`, `epilogue`, `residual` and `dst`
// are the kernel's.

// 0 none, 1 added before the activation, 2 after.
override RESIDUAL: u32;
// 1: of every two groups the first, activated, is multiplied by the second.
override GATE: u32;

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

// Group `group`, of even number with a gate, and the next one if there is one.
fn store_two(pixel: u32, group: u32, first: vec4<f32>, second: vec4<f32>) {
    if GATE == 1u {
        let value = activate(first, vec4<f32>(epilogue[params.dst_groups + group])) * second;
        dst[(pixel * params.dst_groups + group) / 2u] = to_elem4(value);
    } else {
        store(pixel, group, first);
        if group + 1u < params.dst_groups {
            store(pixel, group + 1u, second);
        }
    }
}
