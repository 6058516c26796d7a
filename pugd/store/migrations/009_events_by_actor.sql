-- What a person's timeline shows of an event, once more, in the order of actors: all that one actor did lies together, in few
-- parts, however many months it is of. So it has no partitions, and since a read takes a few rows of nearly all columns: small
-- granules, parts in which all columns lie in one file, and the codec that is quickest to read and write. The drain writes it
-- after `events`, row by row the same (drain.py).
-- It takes the place of the projection of all that is short, which had an actor's rows in as many places as there are parts of
-- all months, and without their texts.
create table if not exists events_by_actor
(
    project UInt32,
    actor UInt64,
    occurred_at DateTime64(3, 'UTC'),
    received_at DateTime64(3, 'UTC'),
    call LowCardinality(String),
    event LowCardinality(String),
    event_id String,
    user_id String,
    anonymous_id String,
    session_id String,
    transport LowCardinality(String),
    platform LowCardinality(String),
    bot UInt8,
    cookieless UInt8,
    properties_text String,
    context String,
    url String,
    path String,
    title String,
    country LowCardinality(String),
    region LowCardinality(String),
    city LowCardinality(String),
    collector LowCardinality(String),
    epoch UInt64,
    position UInt64,
    index position_minmax position type minmax granularity 4
)
engine = MergeTree
order by (project, actor, occurred_at)
settings
    fsync_after_insert = 1, fsync_part_directory = 1, non_replicated_deduplication_window = 10000,
    index_granularity = 256, min_compress_block_size = 4096, min_bytes_for_wide_part = 1000000000000,
    min_rows_for_wide_part = 1000000000000;
-- Of events that are stored already, those that are missing: so this may be done again.
insert into events_by_actor
    (project, actor, occurred_at, received_at, call, event, event_id, user_id, anonymous_id, session_id, transport, platform,
    bot, cookieless, properties_text, context, url, path, title, country, region, city, collector, epoch, position)
settings insert_deduplicate = 0
select project, actor, occurred_at, received_at, call, event, event_id, user_id, anonymous_id, session_id, transport, platform,
    bot, cookieless, properties_text, context, url, path, title, country, region, city, collector, epoch, position
from events
where (collector, epoch, position) not in (select collector, epoch, position from events_by_actor);
-- What `events` alone has of an actor's events (conditions on a timeline) is found by their offsets, as before 007.
alter table events add projection if not exists by_actor (select _part_offset order by (project, actor));
alter table events materialize projection by_actor;
alter table events drop projection if exists of_actor;
