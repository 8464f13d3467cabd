// What a convolution reads: an image, two joined ones, or one with layer norm. `params`, `src`, `extra` and `statistics` are the
// kernel's.

// Groups of the first of two images whose channels follow one another; `extra` is the second. 0: there is one image.
override JOINED: u32;
// Channels of a layer norm, with `extra` as scale, then shift, and for every pixel what is subtracted and what it is then multiplied
// by. 0: there is none.
override NORM: u32;

// Where a pixel's channels are.
struct Place {
    first: u32,
    second: u32,
    statistics: vec2<f32>,
    // 0 for a pixel that stands for a zero outside the image.
    weight: f32,
}

fn place(pixel: u32, weight: f32) -> Place {
    var result: Place;
    result.weight = weight;
    if JOINED > 0u {
        result.first = pixel * JOINED;
        result.second = pixel * (params.src_groups - JOINED);
    } else {
        result.first = pixel * params.src_groups;
    }
    if NORM > 0u {
        result.statistics = statistics[pixel];
    }
    return result;
}

fn load4(place: Place, group: u32) -> vec4<f32> {
    var value: vec4<f32>;
    if JOINED > 0u && group >= JOINED {
        value = vec4<f32>(extra[place.second + group - JOINED]);
    } else {
        value = vec4<f32>(src[place.first + group]);
    }
    if NORM > 0u {
        if NORM % 4u > 0u {
            value = select(vec4<f32>(0.0), value, live4(group, NORM));
        }
        value = (value - place.statistics.x) * place.statistics.y;
        value = value * vec4<f32>(extra[group]) + vec4<f32>(extra[params.src_groups + group]);
    }
    return value * place.weight;
}
