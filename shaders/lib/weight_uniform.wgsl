// The weights of one launch's block. Uniform memory is what devices broadcast best: on a software driver a load from it
// takes half as long as one from a storage buffer, and graphics cards keep it in their constant caches.
@group(0) @binding(2) var<uniform> weight: array<block, 65536 / (16 * GROUPS)>;
