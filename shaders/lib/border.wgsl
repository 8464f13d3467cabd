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
    let period = 2 * last;
    let folded = ((position % period) + period) % period;
    return min(folded, period - folded);
}
