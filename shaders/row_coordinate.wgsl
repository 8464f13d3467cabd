// The vertical position of every pixel, 0 at the top of the whole image and 1 at its bottom.
//   dst[y, x] = (top + y) / (full_height - 1)
// dst [1, h, w]   one invocation per pixel

struct Params {
    width: u32,
    height: u32,
    // The tile's first row in the whole image.
    top: u32,
    full_height: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read_write> dst: array<elem4>;

@compute @workgroup_size(8, 8, 1)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
    if id.x >= params.width || id.y >= params.height {
        return;
    }
    // A single row is row 0: the divisor is then of no account.
    let position = f32(params.top + id.y) / f32(max(params.full_height, 2u) - 1u);
    dst[id.y * params.width + id.x] = to_elem4(vec4(position, 0.0, 0.0, 0.0));
}
