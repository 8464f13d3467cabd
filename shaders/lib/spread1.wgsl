// The row that lane k holds, in blocks of 1 group.
fn lane0(row: block) -> block { return subgroupBroadcast(row, 0u); }
fn lane1(row: block) -> block { return subgroupBroadcast(row, 1u); }
fn lane2(row: block) -> block { return subgroupBroadcast(row, 2u); }
fn lane3(row: block) -> block { return subgroupBroadcast(row, 3u); }
fn lane4(row: block) -> block { return subgroupBroadcast(row, 4u); }
fn lane5(row: block) -> block { return subgroupBroadcast(row, 5u); }
fn lane6(row: block) -> block { return subgroupBroadcast(row, 6u); }
fn lane7(row: block) -> block { return subgroupBroadcast(row, 7u); }
