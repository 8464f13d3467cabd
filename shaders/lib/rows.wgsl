// A few consecutive rows of a block of weights, each read where it is used.
alias Rows = u32;

fn four_rows(at: u32, local: u32) -> Rows { return at; }
fn twelve_rows(at: u32, local: u32) -> Rows { return at; }
fn row0(rows: Rows) -> block { return weight[rows + 0u]; }
fn row1(rows: Rows) -> block { return weight[rows + 1u]; }
fn row2(rows: Rows) -> block { return weight[rows + 2u]; }
fn row3(rows: Rows) -> block { return weight[rows + 3u]; }
fn row4(rows: Rows) -> block { return weight[rows + 4u]; }
fn row5(rows: Rows) -> block { return weight[rows + 5u]; }
fn row6(rows: Rows) -> block { return weight[rows + 6u]; }
fn row7(rows: Rows) -> block { return weight[rows + 7u]; }
fn row8(rows: Rows) -> block { return weight[rows + 8u]; }
fn row9(rows: Rows) -> block { return weight[rows + 9u]; }
fn row10(rows: Rows) -> block { return weight[rows + 10u]; }
fn row11(rows: Rows) -> block { return weight[rows + 11u]; }
