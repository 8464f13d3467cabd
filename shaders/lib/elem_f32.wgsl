// Storage type: 32-bit floats. Arithmetic is f32 in either case.
alias elem = f32;
alias elem4 = vec4<f32>;

fn to_elem4(value: vec4<f32>) -> elem4 {
    return value;
}
