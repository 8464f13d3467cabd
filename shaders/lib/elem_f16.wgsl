enable f16;

// Storage type: 16-bit floats. Arithmetic is f32 in either case.
alias elem = f16;
alias elem4 = vec4<f16>;

// Saturates: a value beyond the format's largest would be stored as infinity and turn everything after it into NaN.
fn to_elem4(value: vec4<f32>) -> elem4 {
    return elem4(clamp(value, vec4(-65504.0), vec4(65504.0)));
}
