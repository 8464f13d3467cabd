// The same where a subgroup is eight consecutive invocations: each reads one vector and all tell each other.
fn four(at: u32, step: u32, local: u32) -> mat4x4<f32> {
    let own = staged[at + local % 4u * step];
    return mat4x4<f32>(
        subgroupBroadcast(own, 0u),
        subgroupBroadcast(own, 1u),
        subgroupBroadcast(own, 2u),
        subgroupBroadcast(own, 3u),
    );
}
