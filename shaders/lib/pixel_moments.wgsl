// Mean and deviation of a pixel's channels; `src` and `live4` are the kernel's.

// (mean, 1 / sqrt(variance + eps)) of the `channels` channels from group `base` on. Two passes: the difference of squares would
// lose what a large mean leaves.
fn pixel_moments(base: u32, groups: u32, channels: u32, eps: f32) -> vec2<f32> {
    let zero = vec4<f32>(0.0);
    var sum = zero;
    for (var g = 0u; g < groups; g++) {
        sum += select(zero, vec4<f32>(src[base + g]), live4(g, channels));
    }
    let mean = (sum.x + sum.y + sum.z + sum.w) / f32(channels);
    var squares = zero;
    for (var g = 0u; g < groups; g++) {
        let d = select(zero, vec4<f32>(src[base + g]) - mean, live4(g, channels));
        squares += d * d;
    }
    let variance = (squares.x + squares.y + squares.z + squares.w) / f32(channels);
    return vec2<f32>(mean, 1.0 / sqrt(variance + eps));
}
