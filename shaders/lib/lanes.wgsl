// Lanes of the groups of four channels in which a pixel is stored.

// Which of the four channels of `group` are among the first `channels`; the others are padding.
fn live4(group: u32, channels: u32) -> vec4<bool> {
    return vec4<u32>(group * 4u) + vec4<u32>(0u, 1u, 2u, 3u) < vec4<u32>(channels);
}

// The four lanes that start `shift` lanes into `low`, which `high` follows.
fn shift4(low: vec4<f32>, high: vec4<f32>, shift: u32) -> vec4<f32> {
    switch shift {
        case 1u: { return vec4<f32>(low.yzw, high.x); }
        case 2u: { return vec4<f32>(low.zw, high.xy); }
        case 3u: { return vec4<f32>(low.w, high.xyz); }
        default: { return low; }
    }
}
