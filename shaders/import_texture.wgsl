// Reads a tile from a texture into the kernels' storage layout: luma for one channel, colours for three.
//   dst[0, y, x] = luma(src[top + y, left + x]) * gain + offset, or dst[0..3, y, x] = its red, green and blue
// Luma is Rec. 601, as for host pictures.

struct Params {
    top: u32,
    left: u32,
    width: u32,
    height: u32,
    channels: u32,
    gain: f32,
    offset: f32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var src: texture_2d<f32>;
@group(0) @binding(2) var<storage, read_write> dst: array<elem4>;

@compute @workgroup_size(8, 8, 1)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
    if id.x >= params.width || id.y >= params.height {
        return;
    }
    let pixel = textureLoad(src, vec2(params.left + id.x, params.top + id.y), 0).rgb;
    var value = vec4(pixel, 0.0);
    if params.channels == 1u {
        value = vec4(dot(pixel, vec3(0.299, 0.587, 0.114)), 0.0, 0.0, 0.0);
    }
    dst[id.y * params.width + id.x] = to_elem4(value * params.gain + params.offset);
}
