-- What a key is called, from which web pages it may send, how much, and until when it opens (the old one of a rotation).
-- 0 and an empty list are no limit. The signing secret has to be known to check a signature, so it is kept as it is.

alter table keys
    add column name       text not null default '',
    add column origins    text[] not null default '{}',
    add column rate       integer not null default 0 check (rate >= 0),
    add column burst      integer not null default 0 check (burst >= 0),
    add column per_day    bigint not null default 0 check (per_day >= 0),
    add column signing    text not null default '',
    add column expires_at timestamptz;

create view keys_in_force as
    select * from keys where revoked_at is null and (expires_at is null or expires_at > now());
