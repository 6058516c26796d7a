-- From link-log place `version` on, `actor` belongs to `person`: the row of the greatest version holds. A row only for
-- linked actors. Whom a person consists of is asked the other way round: a projection.
create table if not exists person_of
(
    project UInt32,
    actor UInt64,
    person UInt64,
    version UInt64 codec(T64, ZSTD(1)),
    collector LowCardinality(String),
    epoch UInt64 codec(ZSTD(1)),
    position UInt64 codec(T64, ZSTD(1)),
    index position_minmax position type minmax granularity 1,
    projection by_person (select _part_offset order by (project, person))
)
engine = MergeTree
order by (project, actor, version)
settings
    fsync_after_insert = 1, fsync_part_directory = 1, non_replicated_deduplication_window = 10000, index_granularity = 1024,
    lightweight_mutation_projection_mode = 'rebuild';
