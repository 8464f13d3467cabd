enable wgpu_cooperative_matrix;

// Matrices of 16x16 that the 32 lanes of a subgroup hold together.
const EDGE = 16u;
const LANES = 32u;
alias Left = coop_mat16x16<elem, A>;
alias Right = coop_mat16x16<elem, B>;
alias Sum = coop_mat16x16<f32, C>;
