//! One module per operator: how a line of its case table becomes the operator.

use crate::harness::Case;
use sonolume::ops::Op;

macro_rules! case_tables {
    ($($stem:ident),* $(,)?) => {
        $(mod $stem;)*

        /// Stem, case table and builder of every operator.
        pub const TABLES: &[(&str, &str, fn(&Case) -> Op)] = &[
            $((stringify!($stem), include_str!(concat!(stringify!($stem), ".txt")), |case| $stem::op(case).into()),)*
        ];
    };
}
case_tables!(
    activation,
    binary,
    channel_attention,
    concat,
    conv2d,
    conv_transpose2d,
    crop,
    fused_conv,
    gate,
    global_pool,
    gram,
    layer_norm,
    linear,
    moments,
    normalize,
    pad,
    pixel_shuffle,
    pixel_unshuffle,
    pool2d,
    row_coordinate,
    scale_shift,
    upsample,
    window_attention,
);
