// Four vectors of the workgroup's memory `staged`, `step` apart, as the columns of a matrix.
fn four(at: u32, step: u32, local: u32) -> mat4x4<f32> {
    return mat4x4<f32>(staged[at], staged[at + step], staged[at + 2u * step], staged[at + 3u * step]);
}
