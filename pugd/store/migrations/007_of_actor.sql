-- Everything short that is asked of one actor's events, in their order: a person's sessions and sights, and the events that
-- the drain looks up, are read from here and not from where each event lies, a granule each. What is long (properties,
-- context, page) is read there, by the offset. It takes the place of by_actor, which had the offset alone.
alter table events
    add projection if not exists of_actor
    (
        select project, actor, occurred_at, received_at, collector, epoch, position, event, event_id, user_id, anonymous_id,
            session_id, transport, platform, path, call, bot, cookieless, _part_offset
        order by (project, actor, occurred_at)
    );
alter table events materialize projection of_actor;
alter table events drop projection if exists by_actor;
