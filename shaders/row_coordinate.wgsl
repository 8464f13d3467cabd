// The vertical position of every pixel, 0 at the top of the whole image and 1 at its bottom, padded below and unshuffled.
//   dst[i*r + j, y, x] = min((top + y)*r + i, full_height - 1) / (full_height - 1)
// dst [r*r, h, w]   one invocation per group of four channels of a pixel

struct Params {
    width: u32,
    height: u32,
    // The tile's first row in the whole result.
    top: u32,
    // The whole image's rows, not padded.
    full_height: u32,
}

override FACTOR: u32;

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read_write> dst: array<elem4>;

@compute @workgroup_size(8, 8, 1)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
    if id.x >= params.width || id.y >= params.height {
        return;
    }
    let last = params.full_height - 1u;
    // Padding lanes go on as if there were more rows: finite.
    let rows = min((params.top + id.y) * FACTOR + (id.z * 4u + vec4<u32>(0u, 1u, 2u, 3u)) / FACTOR, vec4<u32>(last));
    // A single row is row 0: the divisor is then of no account.
    let value = vec4<f32>(rows) / f32(max(last, 1u));
    let groups = (FACTOR * FACTOR + 3u) / 4u;
    dst[(id.y * params.width + id.x) * groups + id.z] = to_elem4(value);
}
