// The weights of all blocks, where one block exceeds what uniform memory must hold (64 KiB).
@group(0) @binding(2) var<storage, read> weight: array<block>;
