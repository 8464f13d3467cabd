// The sums of a run: 8 pixels x a block of output channels, in registers. `block`, `bias` and `store_block` are those of the
// block's library, `Rows` of the rows'.

const PIXELS = 8u;

struct Sums {
    s0: block, s1: block, s2: block, s3: block, s4: block, s5: block, s6: block, s7: block,
}

// Four channels of each pixel.
struct Pixels {
    v0: vec4<f32>, v1: vec4<f32>, v2: vec4<f32>, v3: vec4<f32>, v4: vec4<f32>, v5: vec4<f32>, v6: vec4<f32>, v7: vec4<f32>,
}

fn begin(group: u32) -> Sums {
    let start = bias(group);
    return Sums(start, start, start, start, start, start, start, start);
}

// Adds the products of the first `lanes` channels with as many rows of weights.
fn add_rows(sums: ptr<function, Sums>, v: Pixels, rows: Rows, lanes: u32) {
    var w = row0(rows);
    (*sums).s0 += w * v.v0.x; (*sums).s1 += w * v.v1.x; (*sums).s2 += w * v.v2.x; (*sums).s3 += w * v.v3.x;
    (*sums).s4 += w * v.v4.x; (*sums).s5 += w * v.v5.x; (*sums).s6 += w * v.v6.x; (*sums).s7 += w * v.v7.x;
    if lanes > 1u {
        w = row1(rows);
        (*sums).s0 += w * v.v0.y; (*sums).s1 += w * v.v1.y; (*sums).s2 += w * v.v2.y; (*sums).s3 += w * v.v3.y;
        (*sums).s4 += w * v.v4.y; (*sums).s5 += w * v.v5.y; (*sums).s6 += w * v.v6.y; (*sums).s7 += w * v.v7.y;
    }
    if lanes > 2u {
        w = row2(rows);
        (*sums).s0 += w * v.v0.z; (*sums).s1 += w * v.v1.z; (*sums).s2 += w * v.v2.z; (*sums).s3 += w * v.v3.z;
        (*sums).s4 += w * v.v4.z; (*sums).s5 += w * v.v5.z; (*sums).s6 += w * v.v6.z; (*sums).s7 += w * v.v7.z;
    }
    if lanes > 3u {
        w = row3(rows);
        (*sums).s0 += w * v.v0.w; (*sums).s1 += w * v.v1.w; (*sums).s2 += w * v.v2.w; (*sums).s3 += w * v.v3.w;
        (*sums).s4 += w * v.v4.w; (*sums).s5 += w * v.v5.w; (*sums).s6 += w * v.v6.w; (*sums).s7 += w * v.v7.w;
    }
}

// Stores those pixels of the run that come before `end`: `pixel` is the first one's place in the output and `x` its position,
// `step` and `x_step` lead from one to the next.
fn store_run(sums: Sums, pixel: u32, step: u32, x: u32, x_step: u32, end: u32, group: u32) {
    var list = array<block, 8>(sums.s0, sums.s1, sums.s2, sums.s3, sums.s4, sums.s5, sums.s6, sums.s7);
    for (var p = 0u; p < PIXELS; p++) {
        if x + p * x_step < end {
            store_block(pixel + p * step, group, list[p]);
        }
    }
}
