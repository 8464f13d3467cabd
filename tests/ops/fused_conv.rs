use sonolume::ops::fused_conv::{Before, Behind, Dense, FusedConv};
use sonolume::ops::gate::Gate;
use sonolume::ops::layer_norm::LayerNorm;
use sonolume::ops::pixel_shuffle::PixelShuffle;

use super::{activation, conv2d, linear};
use crate::harness::Case;

pub fn op(case: &Case) -> FusedConv {
    let is = |key: &str| case.number::<u32>(key) == 1;
    let (first, second) = (case.shape("src").channels, case.number::<usize>("join"));
    let mut dense = if is("linear") { Dense::Linear(linear::op(case)) } else { Dense::Conv2d(conv2d::op(case)) };
    let (channels, function) = match &mut dense {
        Dense::Conv2d(conv) => (&mut conv.in_channels, &mut conv.activation),
        Dense::Linear(linear) => (&mut linear.in_channels, &mut linear.activation),
    };
    *channels = first + second;
    let behind = match (is("gate"), case.number("shuffle")) {
        (true, _) => {
            *function = activation::Function::Identity;
            let channels = case.number::<usize>("out") / 2;
            Behind::Gate(Gate { channels, activation: activation::function(case) })
        }
        (false, 1) => Behind::Nothing,
        (false, factor) => Behind::Shuffle(PixelShuffle { factor }),
    };
    let before = match (second, is("norm")) {
        (0, false) => Before::Nothing,
        (0, true) => Before::Norm(LayerNorm {
            channels: first,
            eps: case.number("eps"),
            center: is("center"),
            weight: is("weight"),
            bias: is("shift"),
        }),
        (_, _) => Before::Join(first),
    };
    FusedConv { before, dense, behind }
}
