// One group of output channels, summed side by side: `params`, `epilogue` and `store` are the kernel's.
const GROUPS = 1u;
alias block = vec4<f32>;

fn bias(group: u32) -> block {
    return vec4<f32>(epilogue[group]);
}

fn store_block(pixel: u32, group: u32, sum: block) {
    store(pixel, group, sum);
}
