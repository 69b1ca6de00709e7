-- Where prospects are kept. Runs on Supabase and on plain PostgreSQL 15 and newer.
--
-- prospect_sessions       one row a chat session: its newest enriched record. Written by the sink.
-- prospect_contributions  one row for each distinct call of update_prospect_data. Written by that function.
-- prospect_tracking       one row a person: the fold over that person's sessions and contributions.
--
-- A person is a fingerprint, or 'session:<session id>' while a session has none.

-- An installation may have this table already: then only what is missing is added, and a row becomes a contribution when
-- its person is first heard of. Until then whoever writes it may go on.
-- The comment on the table says whether it is ours; its access rules are left alone if it is not.
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
-- The keys of prospect_data, beyond the standard ones, that the last fold wrote: any other key is somebody else's and is kept.
alter table public.prospect_tracking add column if not exists merged_keys text[] not null default '{}';
-- When the fold last wrote the row. Null: it never did, and what stands there is kept as a contribution when it first does.
alter table public.prospect_tracking add column if not exists folded_at timestamptz;
-- By hand only: nothing is stored for a person whose row says so. Erasures leave no row; see prospect_suppressions.
alter table public.prospect_tracking add column if not exists erased_at timestamptz;

-- What the fold finds a person's row by. Left out while an older table holds a fingerprint twice: which of the two rows
-- counts is for its owner to decide. `nexus migrate --plan` tells, and `nexus migrate` makes it once that is settled.
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
-- Every batch asks whether it holds somebody whose row says so: an index of the few.
create index if not exists prospect_tracking_erased on public.prospect_tracking (tenant_id, fingerprint_id)
  where erased_at is not null;

create table public.prospect_sessions (
  tenant_id text not null default '',
  session_id text not null,
  fingerprint text,
  person_key text not null generated always as (coalesce(fingerprint, 'session:' || session_id)) stored,
  -- The person this session belonged to before its last change, when that change moved it.
  moved_from text,
  record jsonb not null,
  snapshot_at_ms bigint not null,
  enriched_at timestamptz not null,
  -- topic-partition-offset of the ingestion record
  source text,
  -- Where the sink calls an installation's own update_prospect_data: SHA-256 of its last call for this session.
  called_with text,
  created_at timestamptz not null default now(),
  updated_at timestamptz not null default now(),
  -- By hand only: such a row stays as it is. Erasures leave no row; see prospect_suppressions.
  erased_at timestamptz,
  primary key (tenant_id, session_id),
  constraint prospect_sessions_session_id check (session_id <> ''),
  constraint prospect_sessions_fingerprint check (fingerprint <> '' and fingerprint not like 'session:%'),
  -- A moment that cannot be: it would win over every later snapshot.
  constraint prospect_sessions_snapshot_at_ms check (snapshot_at_ms between 0 and 253402300799999),
  constraint prospect_sessions_enriched_at check (isfinite(enriched_at)),
  constraint prospect_sessions_record check (jsonb_typeof(record) = 'object')
);
create index prospect_sessions_person on public.prospect_sessions (tenant_id, person_key);

create table public.prospect_contributions (
  tenant_id text not null default '',
  -- As called: a fingerprint or 'session:<session id>'. The latter follows its session to whichever person has it.
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

comment on table public.prospect_sessions is 'Newest enriched record of each chat session. Written by the sink.';
comment on table public.prospect_contributions is 'What callers of update_prospect_data said about a person.';
