use sonolume::ops::activation::Activation;
pub use sonolume::ops::activation::Function;

use crate::harness::Case;

pub fn op(case: &Case) -> Activation {
    Activation { channels: case.shape("src").channels, function: function(case) }
}

/// The field `act`: a function's name, with LeakyReLU's slope behind a colon.
pub fn function(case: &Case) -> Function {
    named(case, "act")
}

/// The same of another field.
pub fn named(case: &Case, field: &str) -> Function {
    let text = case.text(field);
    let (name, slope) = text.split_once(':').unwrap_or((text, "0"));
    match name {
        "none" => Function::Identity,
        "relu" => Function::Relu,
        "leaky" => Function::LeakyRelu { slope: slope.parse().expect("slope") },
        "prelu" => Function::PRelu,
        "silu" => Function::Silu,
        "gelu" => Function::Gelu,
        "gelu_tanh" => Function::GeluTanh,
        "sigmoid" => Function::Sigmoid,
        "tanh" => Function::Tanh,
        _ => panic!("{case}: unknown function {name}"),
    }
}
