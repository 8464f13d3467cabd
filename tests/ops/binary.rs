use sonolume::ops::binary::{Binary, BinaryKind, Broadcast};

use super::activation;
use crate::harness::Case;

pub fn op(case: &Case) -> Binary {
    Binary {
        channels: case.shape("src").channels,
        kind: kind(case),
        broadcast: match case.text("broadcast") {
            "none" => Broadcast::None,
            "pooled" => Broadcast::Pooled,
            "channel" => Broadcast::Channel,
            other => panic!("{case}: unknown broadcast {other}"),
        },
        activation: activation::function(case),
    }
}

/// The fields `kind`, `alpha` and `beta`.
pub fn kind(case: &Case) -> BinaryKind {
    match case.text("kind") {
        "add" => BinaryKind::Add { alpha: case.number("alpha"), beta: case.number("beta") },
        "multiply" => BinaryKind::Multiply,
        other => panic!("{case}: unknown kind {other}"),
    }
}
