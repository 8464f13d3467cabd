enable wgpu_cooperative_matrix;

// Matrices of 8x8 that the eight lanes of a subgroup hold together.
const EDGE = 8u;
const LANES = 8u;
alias Left = coop_mat8x8<elem, A>;
alias Right = coop_mat8x8<elem, B>;
alias Sum = coop_mat8x8<f32, C>;
