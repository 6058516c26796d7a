-- One row a change of one trait of one actor; a person's value is resolved over its actors at read. A person's lie in a few
-- rows each: small granules and blocks, as small as a question over all of a trait does not yet feel.
create table if not exists traits
(
    project UInt32,
    actor UInt64,
    occurred_at DateTime64(3, 'UTC') codec(T64, ZSTD(1)),
    received_at DateTime64(3, 'UTC') codec(T64, ZSTD(1)),
    original_at DateTime64(3, 'UTC') codec(T64, ZSTD(1)),
    time_note LowCardinality(String),
    event_id String codec(ZSTD(1)),
    distinct_id String codec(ZSTD(1)),
    user_id String codec(ZSTD(1)),
    anonymous_id String codec(ZSTD(1)),
    key LowCardinality(String),
    operation LowCardinality(String),
    value String codec(ZSTD(1)),
    transport LowCardinality(String),
    platform LowCardinality(String),
    collector LowCardinality(String),
    epoch UInt64 codec(ZSTD(1)),
    position UInt64 codec(T64, ZSTD(1)),
    index position_minmax position type minmax granularity 1
)
engine = MergeTree
order by (project, actor, key, occurred_at)
settings
    fsync_after_insert = 1, fsync_part_directory = 1, non_replicated_deduplication_window = 10000, index_granularity = 256,
    min_compress_block_size = 4096;
