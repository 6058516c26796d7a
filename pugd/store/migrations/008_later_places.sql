-- Each question that looks up persons where they are kept at hand (belonging.py) asks what came into person_of after a place
-- of the link log, and how many rows there are: parts of which all came before are not read for it, and rows are counted a
-- part.
alter table person_of add index if not exists version_minmax version type minmax granularity 1;
alter table person_of materialize index version_minmax;
alter table person_of add projection if not exists counted (select project, count() group by project);
alter table person_of materialize projection counted;
