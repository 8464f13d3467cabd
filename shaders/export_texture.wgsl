// Writes a tile's core into a texture, blended with the texture it came from, whose alpha and colours it keeps.
// With one channel every colour of a grey pixel moves by the change of luma, and a pixel that carries colour (largest and
// smallest channel more than COLOUR_SPREAD apart, as for host pictures) stays as it is. `factor` is the enlargement.

struct Params {
    src_width: u32,
    skip_top: u32,
    skip_left: u32,
    width: u32,
    height: u32,
    channels: u32,
    top: u32,
    left: u32,
    factor: u32,
    gain: f32,
    offset: f32,
    strength: f32,
}

override COLOUR_SPREAD: f32;

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> src: array<elem4>;
@group(0) @binding(2) var plain: texture_2d<f32>;
@group(0) @binding(3) var dst: texture_storage_2d<rgba8unorm, write>;

@compute @workgroup_size(8, 8, 1)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
    if id.x >= params.width || id.y >= params.height {
        return;
    }
    let at = vec2(params.left + id.x, params.top + id.y);
    let before = textureLoad(plain, at / params.factor, 0);
    let stored = vec4<f32>(src[(params.skip_top + id.y) * params.src_width + params.skip_left + id.x]);
    let result = clamp(stored * params.gain + params.offset, vec4(0.0), vec4(1.0));
    var colour = before.rgb;
    if params.channels == 1u {
        let spread = max(max(colour.r, colour.g), colour.b) - min(min(colour.r, colour.g), colour.b);
        if spread <= COLOUR_SPREAD {
            colour += params.strength * (result.x - dot(colour, vec3(0.299, 0.587, 0.114)));
        }
    } else {
        colour = mix(colour, result.rgb, params.strength);
    }
    textureStore(dst, at, vec4(colour, before.a));
}
