// What ends a convolution or a linear map: residual, activation, gate or pixel shuffle, and the write. `params`, `epilogue`,
// `residual` and `dst` are the kernel's, `params.line` the pixels of a line of its result before they are shuffled.

// 0 none, 1 added before the activation, 2 after.
override RESIDUAL: u32;
// 1: of every two groups the first, activated, is multiplied by the second.
override GATE: u32;
// The factor of a pixel shuffle, or 1. Group g of the sums is group g / factor^2 of what is stored, at the place g % factor^2 of
// the square that becomes of a pixel.
override SHUFFLE: u32;

// Where a group of a pixel goes.
fn destination(pixel: u32, group: u32) -> u32 {
    if SHUFFLE == 1u {
        return pixel * params.dst_groups + group;
    }
    let area = SHUFFLE * SHUFFLE;
    let phase = group % area;
    let x = pixel % params.line * SHUFFLE + phase % SHUFFLE;
    let y = pixel / params.line * SHUFFLE + phase / SHUFFLE;
    return (y * params.line * SHUFFLE + x) * (params.dst_groups / area) + group / area;
}

fn store(pixel: u32, group: u32, sum: vec4<f32>) {
    let at = destination(pixel, group);
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
