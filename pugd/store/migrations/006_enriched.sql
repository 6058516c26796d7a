-- What is made of a user agent, a page's address and the sender's place: few distinct values each, so names.
alter table events
    add column if not exists browser LowCardinality(String) after app_version,
    add column if not exists browser_version LowCardinality(String) after browser,
    add column if not exists os LowCardinality(String) after browser_version,
    add column if not exists os_version LowCardinality(String) after os,
    add column if not exists device LowCardinality(String) after os_version,
    add column if not exists screen LowCardinality(String) after device,
    add column if not exists host LowCardinality(String) after screen,
    add column if not exists referrer_domain LowCardinality(String) after host,
    add column if not exists channel LowCardinality(String) after referrer_domain,
    add column if not exists utm_source LowCardinality(String) after channel,
    add column if not exists utm_medium LowCardinality(String) after utm_source,
    add column if not exists utm_campaign LowCardinality(String) after utm_medium,
    add column if not exists utm_term LowCardinality(String) after utm_campaign,
    add column if not exists utm_content LowCardinality(String) after utm_term,
    add column if not exists country LowCardinality(String) after utm_content,
    add column if not exists region LowCardinality(String) after country,
    add column if not exists city LowCardinality(String) after region;
