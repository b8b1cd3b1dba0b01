-- Parts that were merged: cut by a hash of the key, sorted, of a higher level. Parts written before have no bucket.
alter table parts
    add column format         integer     not null default 1, -- of the file; an unknown one is refused by the reader
    add column bucket         integer,                        -- null: rows of any bucket
    add column buckets        integer,                        -- into how many the view was cut then: 1, 16 or 256
    add column level          integer     not null default 0, -- 0: written by an ingest; else how often it was merged
    add column min_seq        bigint,                         -- null: every row is of `seq`, which is the greatest
    add column min_known_time timestamptz,
    add column schema_hash    text,
    add column replaced_at    timestamptz,                    -- when merged parts took its place; null: it is read
    add column replaced_epoch bigint,                         -- where that stands among leases: see `part_leases`
    add column removed_at     timestamptz,                    -- when its file went; the row stays for the lineage
    add constraint parts_bucket_of_buckets check ((bucket is null) = (buckets is null)),
    add constraint parts_removed_after_replaced check (removed_at is null or replaced_at is not null);
create index parts_live on parts (project, view, view_version) where replaced_at is null;
create index parts_replaced on parts (project, replaced_at) where replaced_at is not null and removed_at is null;

-- The order of leases and replacements, which no clock tells reliably.
create sequence part_epochs;

-- Who reads parts at the moment: what was replaced at a later epoch stays on disk until the lease ends or expires.
create table part_leases (
    lease_id   uuid        primary key,
    project    text        not null,
    epoch      bigint      not null,
    expires_at timestamptz not null
);
create index part_leases_by_project on part_leases (project, expires_at);
