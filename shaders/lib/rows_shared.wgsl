// The same where a subgroup is eight consecutive invocations: each reads one row and all tell each other. On a software
// driver a value from another lane costs a fraction of one from memory.
struct Rows {
    // Rows 0 to 7.
    first: block,
    // Rows 8 to 11.
    last: block,
}

fn four_rows(at: u32, local: u32) -> Rows {
    let row = weight[at + local % 4u];
    return Rows(row, row);
}
fn twelve_rows(at: u32, local: u32) -> Rows {
    return Rows(weight[at + local % 8u], weight[at + 8u + local % 4u]);
}
fn row0(rows: Rows) -> block { return lane0(rows.first); }
fn row1(rows: Rows) -> block { return lane1(rows.first); }
fn row2(rows: Rows) -> block { return lane2(rows.first); }
fn row3(rows: Rows) -> block { return lane3(rows.first); }
fn row4(rows: Rows) -> block { return lane4(rows.first); }
fn row5(rows: Rows) -> block { return lane5(rows.first); }
fn row6(rows: Rows) -> block { return lane6(rows.first); }
fn row7(rows: Rows) -> block { return lane7(rows.first); }
fn row8(rows: Rows) -> block { return lane0(rows.last); }
fn row9(rows: Rows) -> block { return lane1(rows.last); }
fn row10(rows: Rows) -> block { return lane2(rows.last); }
fn row11(rows: Rows) -> block { return lane3(rows.last); }
