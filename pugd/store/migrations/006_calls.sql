-- One row an identify or alias, as it was made: the link log keeps only what said something new, in the order of arrival.
-- When ids were seen, and which call first named two of them, must not follow arrival: those are the least and the greatest of
-- these. Asked for by either side: the user's by the order of the table, the other's by a projection.
create table if not exists calls
(
    project UInt32,
    a UInt64,
    b UInt64,
    a_id String codec(ZSTD(1)),
    b_id String codec(ZSTD(1)),
    b_user UInt8,
    call LowCardinality(String),
    occurred_at DateTime64(3, 'UTC') codec(T64, ZSTD(1)),
    received_at DateTime64(3, 'UTC') codec(T64, ZSTD(1)),
    original_at DateTime64(3, 'UTC') codec(T64, ZSTD(1)),
    time_note LowCardinality(String),
    event_id String codec(ZSTD(1)),
    transport LowCardinality(String),
    platform LowCardinality(String),
    collector LowCardinality(String),
    epoch UInt64 codec(ZSTD(1)),
    position UInt64 codec(T64, ZSTD(1)),
    index position_minmax position type minmax granularity 1,
    projection by_a (select _part_offset order by (project, a))
)
engine = MergeTree
order by (project, b, occurred_at)
settings
    fsync_after_insert = 1, fsync_part_directory = 1, non_replicated_deduplication_window = 10000,
    lightweight_mutation_projection_mode = 'rebuild';
