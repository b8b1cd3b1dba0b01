-- Which programs this schema still serves. A migration that only adds leaves the row as it is; one that takes away or changes what
-- programs use raises `oldest_program` to the first migration whose programs do without it. A program whose own newest
-- migration is older refuses to start.
create table schema_compatibility (
    only_row       boolean primary key default true check (only_row),
    oldest_program bigint  not null -- the newest migration that a program has to know
);
insert into schema_compatibility (oldest_program) values (20261130000010);
