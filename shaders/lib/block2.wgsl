// Two groups of output channels, summed side by side: `params`, `epilogue`, `store` and `store_two` are the kernel's.
const GROUPS = 2u;
alias block = mat2x4<f32>;

// Groups beyond the last repeat it; they are not stored.
fn bias(group: u32) -> block {
    let last = params.dst_groups - 1u;
    return block(
        vec4<f32>(epilogue[group]),
        vec4<f32>(epilogue[min(group + 1u, last)]),
    );
}

fn store_block(pixel: u32, group: u32, sum: block) {
    store_two(pixel, group, sum[0], sum[1]);
}
