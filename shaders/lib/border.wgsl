// The pixel that stands for `position` of a line of `size` pixels; -1 is a zero.
// Rules as `ops::Border`: 0 zero, 1 reflect (again and again), 2 replicate.
fn border(position: i32, size: i32, rule: u32) -> i32 {
    if position >= 0 && position < size {
        return position;
    }
    let last = size - 1;
    if rule == 0u {
        return -1;
    }
    if rule == 2u || last == 0 {
        return clamp(position, 0, last);
    }
    // Folded once in most cases; a remainder would take several times as long as all else here.
    var folded = position;
    while folded < 0 || folded > last {
        folded = select(2 * last - folded, -folded, folded < 0);
    }
    return folded;
}
