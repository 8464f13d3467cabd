// Three groups of output channels, summed side by side: `params`, `epilogue`, `store` and `store_two` are the kernel's.
const GROUPS = 3u;
alias block = mat3x4<f32>;

// Groups beyond the last repeat it; they are not stored.
fn bias(group: u32) -> block {
    let last = params.dst_groups - 1u;
    return block(
        vec4<f32>(epilogue[group]),
        vec4<f32>(epilogue[min(group + 1u, last)]),
        vec4<f32>(epilogue[min(group + 2u, last)]),
    );
}

fn store_block(pixel: u32, group: u32, sum: block) {
    store_two(pixel, group, sum[0], sum[1]);
    if group + 2u < params.dst_groups {
        store(pixel, group + 2u, sum[2]);
    }
}
