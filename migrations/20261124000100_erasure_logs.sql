-- What each erasure blanked in which file of served predictions, written as the file is replaced: the receipt's lines.
create table erasure_logs (
    erasure_id       uuid    not null references erasures,
    registered_model text    not null,
    version          integer not null,
    old_path         text    not null,          -- removed again when the erasure finishes, should a crash have left it
    old_sha256       text    not null,
    new_sha256       text    not null,
    rows_redacted    bigint  not null check (rows_redacted > 0),
    primary key (erasure_id, old_path)
);
