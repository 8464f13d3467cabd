// The row that lane k holds, in blocks of 4 groups.
fn lane0(row: block) -> block { return block(subgroupBroadcast(row[0], 0u), subgroupBroadcast(row[1], 0u), subgroupBroadcast(row[2], 0u), subgroupBroadcast(row[3], 0u)); }
fn lane1(row: block) -> block { return block(subgroupBroadcast(row[0], 1u), subgroupBroadcast(row[1], 1u), subgroupBroadcast(row[2], 1u), subgroupBroadcast(row[3], 1u)); }
fn lane2(row: block) -> block { return block(subgroupBroadcast(row[0], 2u), subgroupBroadcast(row[1], 2u), subgroupBroadcast(row[2], 2u), subgroupBroadcast(row[3], 2u)); }
fn lane3(row: block) -> block { return block(subgroupBroadcast(row[0], 3u), subgroupBroadcast(row[1], 3u), subgroupBroadcast(row[2], 3u), subgroupBroadcast(row[3], 3u)); }
fn lane4(row: block) -> block { return block(subgroupBroadcast(row[0], 4u), subgroupBroadcast(row[1], 4u), subgroupBroadcast(row[2], 4u), subgroupBroadcast(row[3], 4u)); }
fn lane5(row: block) -> block { return block(subgroupBroadcast(row[0], 5u), subgroupBroadcast(row[1], 5u), subgroupBroadcast(row[2], 5u), subgroupBroadcast(row[3], 5u)); }
fn lane6(row: block) -> block { return block(subgroupBroadcast(row[0], 6u), subgroupBroadcast(row[1], 6u), subgroupBroadcast(row[2], 6u), subgroupBroadcast(row[3], 6u)); }
fn lane7(row: block) -> block { return block(subgroupBroadcast(row[0], 7u), subgroupBroadcast(row[1], 7u), subgroupBroadcast(row[2], 7u), subgroupBroadcast(row[3], 7u)); }
