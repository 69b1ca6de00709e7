-- The tables. For PostgreSQL 15 and newer, with or without Supabase.
--
-- prospect_tracking       One row a person: the fold over the person's sessions and contributions.
-- prospect_sessions       One row a chat session: its newest enriched record. The sink writes it.
-- prospect_contributions  One row a distinct call of update_prospect_data. That function writes it.
-- prospect_suppressions   The erased sessions and fingerprints, as hashes. Every write of prospects reads it.
-- privacy_audit           Who exported, erased or let in whom, as hashes. `nexus privacy` writes it.
--
-- A person is a fingerprint. A session without a fingerprint is the person 'session:<session id>'.

-- An installation may have prospect_tracking already. Then its rows and its access rules stay, and only missing columns
-- and indexes are added. The comment on the table says whether the table is ours.
do $$
begin
  if to_regclass('public.prospect_tracking') is null then
    create table public.prospect_tracking (
      tenant_id text not null default '',
      fingerprint_id text not null,
      prospect_data jsonb not null default '{}'::jsonb,
      created_at timestamptz not null default now(),
      updated_at timestamptz not null default now(),
      primary key (tenant_id, fingerprint_id)
    );
    comment on table public.prospect_tracking is 'One row a person. Made by nexus-stream.';
    comment on column public.prospect_tracking.prospect_data is
      'The fold over sessions and contributions. Change it with update_prospect_data: a fold overwrites standard keys.';
  end if;
end
$$;
alter table public.prospect_tracking add column if not exists tenant_id text not null default '';
alter table public.prospect_tracking add column if not exists created_at timestamptz not null default now();
alter table public.prospect_tracking add column if not exists updated_at timestamptz not null default now();
-- The keys that the last fold wrote beyond the standard ones. Any other key belongs to somebody else, and the fold
-- keeps it.
alter table public.prospect_tracking add column if not exists merged_keys text[] not null default '{}';
-- When the fold last wrote the row. Null: the fold never wrote the row. Its first fold keeps the row as a contribution.
alter table public.prospect_tracking add column if not exists folded_at timestamptz;
-- Set by hand only: nothing is stored for this person. An erasure leaves no row: see prospect_suppressions.
alter table public.prospect_tracking add column if not exists erased_at timestamptz;

-- The fold finds a person's row by this index. An older table may hold a fingerprint twice: its owner must decide which
-- row counts. Until then the index is left out. `nexus migrate --plan` tells the fingerprints, `nexus migrate` makes
-- the index.
do $$
begin
  if exists (
    select from public.prospect_tracking t group by t.tenant_id, t.fingerprint_id having count(*) > 1
      and t.fingerprint_id is not null
  ) then
    raise notice 'prospect_tracking holds a fingerprint twice: its unique index was left out';
  elsif not exists (
    select from pg_catalog.pg_index i
    where i.indrelid = 'public.prospect_tracking'::regclass
      and i.indisunique and i.indimmediate and i.indpred is null and i.indexprs is null
      and (
        select array_agg(a.attname::text order by a.attname)
        from pg_catalog.pg_attribute a
        where a.attrelid = i.indrelid and a.attnum = any (i.indkey::int2[])
      ) = array['fingerprint_id', 'tenant_id']
  ) then
    create unique index prospect_tracking_person on public.prospect_tracking (tenant_id, fingerprint_id);
  end if;
end
$$;
create index if not exists prospect_tracking_fingerprint_id on public.prospect_tracking (fingerprint_id);
-- Every batch looks for erased people. They are few, so the index is small.
create index if not exists prospect_tracking_erased on public.prospect_tracking (tenant_id, fingerprint_id)
  where erased_at is not null;

create table public.prospect_sessions (
  tenant_id text not null default '',
  session_id text not null,
  fingerprint text,
  person_key text not null generated always as (coalesce(fingerprint, 'session:' || session_id)) stored,
  -- The session's person before its last change, if that change moved the session.
  moved_from text,
  record jsonb not null,
  snapshot_at_ms bigint not null,
  enriched_at timestamptz not null,
  -- The ingestion record: topic-partition-offset.
  source text,
  -- For an installation's own update_prospect_data: SHA-256 of the sink's last call for this session.
  called_with text,
  created_at timestamptz not null default now(),
  updated_at timestamptz not null default now(),
  -- Set by hand only: the row stays as it is. An erasure leaves no row: see prospect_suppressions.
  erased_at timestamptz,
  primary key (tenant_id, session_id),
  constraint prospect_sessions_session_id check (session_id <> ''),
  constraint prospect_sessions_fingerprint check (fingerprint <> '' and fingerprint not like 'session:%'),
  -- An impossible moment would win over every later snapshot.
  constraint prospect_sessions_snapshot_at_ms check (snapshot_at_ms between 0 and 253402300799999),
  constraint prospect_sessions_enriched_at check (isfinite(enriched_at)),
  constraint prospect_sessions_record check (jsonb_typeof(record) = 'object')
);
comment on table public.prospect_sessions is 'Newest enriched record of each chat session. Written by the sink.';
create index prospect_sessions_person on public.prospect_sessions (tenant_id, person_key);

create table public.prospect_contributions (
  tenant_id text not null default '',
  -- As the caller gave it: a fingerprint, or 'session:<session id>' for the session's person.
  fingerprint_id text not null,
  -- SHA-256 of data: the same call again is the same contribution, made later.
  contribution_id text not null,
  data jsonb not null,
  contributed_at timestamptz not null,
  created_at timestamptz not null default now(),
  primary key (tenant_id, fingerprint_id, contribution_id),
  constraint prospect_contributions_data check (jsonb_typeof(data) = 'object'),
  constraint prospect_contributions_contributed_at check (isfinite(contributed_at))
);
comment on table public.prospect_contributions is 'What callers of update_prospect_data said about a person.';

create table public.prospect_suppressions (
  tenant_id text not null default '',
  -- nexus_subject_hash of a session id or of a fingerprint.
  subject_hash text not null,
  kind text not null,
  -- The same erasure told again is the same row. A replay does not erase again after a lift.
  request_id text not null,
  requested_at timestamptz not null default now(),
  -- The lift: data after this moment is stored, data before this moment is not.
  lifted_at timestamptz,
  primary key (tenant_id, subject_hash, request_id),
  constraint prospect_suppressions_kind check (kind in ('session', 'fingerprint')),
  constraint prospect_suppressions_subject_hash check (subject_hash ~ '^[0-9a-f]{64}$')
);
comment on table public.prospect_suppressions is
  'Erased sessions and fingerprints, as hashes: nothing is stored for them. Made by nexus-stream.';

create table public.privacy_audit (
  request_id text primary key,
  action text not null,
  requested_by text not null,
  requested_at timestamptz not null default now(),
  tenant_id text not null default '',
  selector_kind text not null,
  selector_hash text not null,
  session_hashes text[] not null default '{}',
  fingerprint_hashes text[] not null default '{}',
  -- 'running' until the request ends. An interrupted request stays 'running'.
  outcome text not null default 'running',
  finished_at timestamptz,
  constraint privacy_audit_action check (action in ('export', 'erase', 'lift'))
);
comment on table public.privacy_audit is 'Who exported, erased or let in whom, and when. Made by nexus-stream.';
