-- The trace that a job goes on with, as W3C Trace Context writes it (`traceparent`): that of the request, or the job, that asked for
-- it. Null where traces are not sent.
alter table jobs add column traceparent text;
