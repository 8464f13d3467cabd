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
        second: activation::named(case, "second"),
        then: then(case),
        activation: activation::function(case),
    }
}

/// The fields `kind`, `alpha` and `beta`.
pub fn kind(case: &Case) -> BinaryKind {
    named(case, "kind", "").expect("a kind")
}

/// The fields `then`, `then_alpha` and `then_beta`.
pub fn then(case: &Case) -> Option<BinaryKind> {
    named(case, "then", "then_")
}

fn named(case: &Case, field: &str, prefix: &str) -> Option<BinaryKind> {
    let factor = |name: &str| case.number(&format!("{prefix}{name}"));
    match case.text(field) {
        "none" => None,
        "add" => Some(BinaryKind::Add { alpha: factor("alpha"), beta: factor("beta") }),
        "multiply" => Some(BinaryKind::Multiply),
        other => panic!("{case}: unknown kind {other}"),
    }
}
