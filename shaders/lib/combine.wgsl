// What `ops::binary::BinaryKind` makes of two values. `kind`: 1 a sum with these factors, 2 the product.
fn combine(kind: u32, a: vec4<f32>, alpha: f32, b: vec4<f32>, beta: f32) -> vec4<f32> {
    if kind == 2u {
        return a * b;
    }
    return alpha * a + beta * b;
}
