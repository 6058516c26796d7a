-- The link log: every proposal with its outcome, in its total order. The truth from which persons can be rebuilt.
-- A timeline shows the links of an actor, on either side: a projection each.
create table if not exists links
(
    project UInt32,
    `order` UInt64 codec(T64, ZSTD(1)),
    a UInt64,
    b UInt64,
    a_id String codec(ZSTD(1)),
    b_id String codec(ZSTD(1)),
    call LowCardinality(String),
    refused LowCardinality(String),
    secret UInt8,
    rules UInt8,
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
    projection by_a (select _part_offset order by (project, a)),
    projection by_b (select _part_offset order by (project, b))
)
engine = MergeTree
order by (project, `order`)
settings
    fsync_after_insert = 1, fsync_part_directory = 1, non_replicated_deduplication_window = 10000, index_granularity = 1024,
    lightweight_mutation_projection_mode = 'rebuild';
