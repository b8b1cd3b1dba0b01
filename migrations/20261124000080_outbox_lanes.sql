-- The outbox is emptied by lanes of its own, one a channel, oldest message first: a waiting retry is no job, and a dead
-- receiver holds up its own lane only. Messages of before wait where they stood; the jobs that would have sent them end.
alter table notifications alter column incident_id drop not null;   -- a digest is about many, a test about none
alter table notifications add column monitor text;                  -- null for messages of before
alter table notifications add column registered_model text;
alter table notifications add column next_try_at timestamptz;       -- by the platform's clock
alter table notifications add column lease_expires_at timestamptz;  -- by the machine's: somebody is sending it
alter table notifications add column counted_in uuid references notifications; -- the message that told it was held back
update notifications set next_try_at = created_at;
alter table notifications alter column next_try_at set not null;
alter table notifications drop constraint notifications_event_check;
alter table notifications add constraint notifications_event_check
    check (event in ('opened', 'reopened', 'resolved', 'digest'));
alter table notifications drop constraint notifications_state_check;
alter table notifications add constraint notifications_state_check
    check (state in ('queued', 'delivered', 'dead', 'held-back'));

create index notifications_lanes on notifications (project, channel, created_at, notification_id) where state = 'queued';
create index notifications_by_channel on notifications (project, channel, delivered_at);
create index notifications_by_model on notifications (project, registered_model, created_at);

update jobs set state = 'cancelled', finished_at = created_at where kind = 'notify' and state = 'queued';
