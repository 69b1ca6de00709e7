-- Erasing people and keeping them away, and the record of who asked for it.
--
-- prospect_suppressions  which sessions and fingerprints are kept away, as hashes. Asked by every write of prospects.
-- privacy_audit          who exported, erased or let in whom, as hashes. Written by `nexus privacy`.
--
-- Rows are deleted by the functions below only. They run with their owner's rights, because the sink's own login may not
-- delete sessions: it can erase what it was told to erase, and nothing else.

create table public.prospect_suppressions (
  tenant_id text not null default '',
  -- nexus_subject_hash of a session id or a fingerprint.
  subject_hash text not null,
  kind text not null,
  -- The same erasure told again is the same row. One that was lifted is not erased again by a replay.
  request_id text not null,
  requested_at timestamptz not null default now(),
  -- Let in again: what was said after this moment is stored, what was said before stays away.
  lifted_at timestamptz,
  primary key (tenant_id, subject_hash, request_id),
  constraint prospect_suppressions_kind check (kind in ('session', 'fingerprint')),
  constraint prospect_suppressions_subject_hash check (subject_hash ~ '^[0-9a-f]{64}$')
);
comment on table public.prospect_suppressions is 'Erased sessions and fingerprints, as hashes: nothing is stored for them. Made by nexus-stream.';

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
  -- 'running' while it runs; one that was cut off stays so.
  outcome text not null default 'running',
  finished_at timestamptz,
  constraint privacy_audit_action check (action in ('export', 'erase', 'lift'))
);
comment on table public.privacy_audit is 'Who exported, erased or let in whom, and when. Made by nexus-stream.';

-- The same as subject_hash in nexus_stream/privacy/subjects.py. Plain SQL without settings, so that it is inlined.
create function public.nexus_subject_hash(p_tenant_id text, p_kind text, p_value text) returns text
language sql stable parallel safe
as $$
  select encode(sha256(convert_to(p_kind || E'\x1f' || p_tenant_id || E'\x1f' || p_value, 'UTF8')), 'hex')
$$;

-- Delete what is stored of these people (parallel arrays) and must not be. True when there was something.
--
-- Called with the people's rows locked, after the fold. A sink that wrote a session before the erasure was committed, and
-- folds after it, deletes it here; one that folds before it is waited for by nexus_lock_person.
create function public.nexus_forget_suppressed(p_tenant_ids text[], p_person_keys text[]) returns boolean
language plpgsql volatile security definer
set search_path = ''
as $$
declare
  forgot boolean := false;
  person record;
begin
  if not exists (select from public.prospect_suppressions) then
    return false;
  end if;
  with gone as (
    delete from public.prospect_sessions s
    using unnest(p_tenant_ids, p_person_keys) as p (tenant_id, person_key)
    where s.tenant_id = p.tenant_id and s.person_key = p.person_key and exists (
      select from public.prospect_suppressions u
      where u.tenant_id = s.tenant_id
        and u.subject_hash in (
          public.nexus_subject_hash(s.tenant_id, 'session', s.session_id),
          public.nexus_subject_hash(s.tenant_id, 'fingerprint', s.fingerprint)
        )
        and (u.lifted_at is null or to_timestamp(s.snapshot_at_ms / 1000.0) <= u.lifted_at)
    )
    returning s.tenant_id, s.session_id
  ), said_to_it as (
    delete from public.prospect_contributions c using gone
    where c.tenant_id = gone.tenant_id and c.fingerprint_id = 'session:' || gone.session_id
  )
  select count(*) > 0 into forgot from gone;

  for person in
    select p.tenant_id, p.person_key, max(coalesce(u.lifted_at, 'infinity')) as before
    from unnest(p_tenant_ids, p_person_keys) as p (tenant_id, person_key)
    join public.prospect_suppressions u on u.tenant_id = p.tenant_id and u.subject_hash = case
      when p.person_key like 'session:%' then public.nexus_subject_hash(p.tenant_id, 'session', substr(p.person_key, 9))
      else public.nexus_subject_hash(p.tenant_id, 'fingerprint', p.person_key)
    end
    group by p.tenant_id, p.person_key
  loop
    delete from public.prospect_contributions c
    where c.tenant_id = person.tenant_id and c.fingerprint_id = person.person_key and c.contributed_at <= person.before;
    forgot := forgot or found;
    if person.before = 'infinity' then
      -- With what others wrote into it.
      delete from public.prospect_tracking t
      where t.tenant_id = person.tenant_id and t.fingerprint_id = person.person_key;
      forgot := forgot or found;
    end if;
  end loop;
  return forgot;
end
$$;

-- The fold, and then the deletion of what it must not have folded.
alter function public.nexus_refresh_people(text[], text[]) rename to nexus_refresh_people_unguarded;
create function public.nexus_refresh_people(p_tenant_ids text[], p_person_keys text[]) returns integer
language plpgsql volatile
set search_path = ''
as $$
declare
  changed integer := public.nexus_refresh_people_unguarded(p_tenant_ids, p_person_keys);
begin
  if public.nexus_forget_suppressed(p_tenant_ids, p_person_keys) then
    changed := changed + public.nexus_refresh_people_unguarded(p_tenant_ids, p_person_keys);
  end if;
  return changed;
end
$$;

-- Nobody adds to an erased person: {"success": false} as for any other refusal.
alter function public.nexus_contribute(text, text, jsonb) rename to nexus_contribute_unguarded;
create function public.nexus_contribute(p_tenant_id text, p_fingerprint_id text, p_data jsonb) returns jsonb
language plpgsql volatile
set search_path = ''
as $$
begin
  if exists (
    select from public.prospect_suppressions u
    where u.tenant_id = p_tenant_id and u.lifted_at is null
      and u.subject_hash = public.nexus_subject_hash(p_tenant_id, 'fingerprint', p_fingerprint_id)
  ) then
    return jsonb_build_object('success', false, 'error', 'this person was erased');
  end if;
  return public.nexus_contribute_unguarded(p_tenant_id, p_fingerprint_id, p_data);
end
$$;

-- Hold a person's row until the end of the transaction, also one that is not there: a transaction that is about to insert
-- it is waited for, and one that comes later waits.
create function public.nexus_lock_person(p_tenant_id text, p_person_key text) returns void
language plpgsql volatile security definer
set search_path = ''
as $$
begin
  loop
    insert into public.prospect_tracking (tenant_id, fingerprint_id, prospect_data)
    values (p_tenant_id, p_person_key, '{}') on conflict do nothing;
    perform from public.prospect_tracking t
    where t.tenant_id = p_tenant_id and t.fingerprint_id = p_person_key for update;
    exit when found;
  end loop;
end
$$;

-- Lock, forget and fold these people, in the order in which everybody locks them (nexus_refresh_people_unguarded).
create function public.nexus_forget_people(p_tenant_id text, p_person_keys text[]) returns void
language plpgsql volatile security definer
set search_path = ''
as $$
declare
  person record;
begin
  for person in
    select k.person_key from (select distinct unnest(p_person_keys) as person_key) k
    where k.person_key is not null
    order by k.person_key like 'session:%' desc, k.person_key collate "C"
  loop
    perform public.nexus_lock_person(p_tenant_id, person.person_key);
  end loop;
  perform public.nexus_refresh_people(array_fill(p_tenant_id, array[cardinality(p_person_keys)]), p_person_keys);
end
$$;

-- Erase one session and let nothing of it, or of its fingerprints, back in. False when this very request was lifted since:
-- the sink reads it again, in a replay. The same request again changes nothing. One that was made before a lift but
-- arrives after it is covered by the lift.
create function public.nexus_erase_session(
  p_tenant_id text, p_session_id text, p_fingerprint_hashes text[], p_request_id text, p_requested_at timestamptz
) returns boolean
language plpgsql volatile security definer
set search_path = ''
as $$
declare
  session public.prospect_sessions%rowtype;
begin
  if exists (
    select from public.prospect_suppressions u
    where u.tenant_id = p_tenant_id and u.request_id = p_request_id and u.lifted_at is not null
      and u.subject_hash = public.nexus_subject_hash(p_tenant_id, 'session', p_session_id)
  ) then
    return false;
  end if;
  -- As in nexus_lock_person: a sink that is about to insert this session is waited for.
  insert into public.prospect_sessions (tenant_id, session_id, record, snapshot_at_ms, enriched_at)
  values (p_tenant_id, p_session_id, '{}', 0, 'epoch') on conflict do nothing;
  select * into session from public.prospect_sessions s
  where s.tenant_id = p_tenant_id and s.session_id = p_session_id for update;

  insert into public.prospect_suppressions (tenant_id, subject_hash, kind, request_id, requested_at, lifted_at)
  select p_tenant_id, h.hash, h.kind, p_request_id, p_requested_at, (
    select max(u.lifted_at) from public.prospect_suppressions u
    where u.tenant_id = p_tenant_id and u.subject_hash = h.hash and u.lifted_at >= p_requested_at
  )
  from (
    select public.nexus_subject_hash(p_tenant_id, 'session', p_session_id) as hash, 'session' as kind
    union
    select hash, 'fingerprint' from unnest(
      p_fingerprint_hashes || public.nexus_subject_hash(p_tenant_id, 'fingerprint', session.fingerprint)
    ) hash
  ) h
  where h.hash is not null
  on conflict do nothing;

  perform public.nexus_forget_people(
    p_tenant_id, array[session.person_key, session.moved_from, 'session:' || p_session_id]
  );
  return true;
end
$$;

-- Erase people by fingerprint, with every session of theirs, and let nothing back in.
create function public.nexus_erase_people(p_tenant_id text, p_fingerprints text[], p_request_id text) returns void
language plpgsql volatile security definer
set search_path = ''
as $$
begin
  insert into public.prospect_suppressions (tenant_id, subject_hash, kind, request_id)
  select distinct p_tenant_id, public.nexus_subject_hash(p_tenant_id, 'fingerprint', fingerprint), 'fingerprint', p_request_id
  from unnest(p_fingerprints) fingerprint
  on conflict do nothing;
  perform public.nexus_forget_people(p_tenant_id, p_fingerprints);
end
$$;

-- Delete one session that was idle for too long; what is said later is stored again. What others said about the person
-- goes with their last session, as far as it is as old.
create function public.nexus_expire_session(p_tenant_id text, p_session_id text, p_through_ms bigint) returns boolean
language plpgsql volatile security definer
set search_path = ''
as $$
declare
  session public.prospect_sessions%rowtype;
begin
  delete from public.prospect_sessions s
  where s.tenant_id = p_tenant_id and s.session_id = p_session_id and s.snapshot_at_ms <= p_through_ms
  returning s.* into session;
  if not found then
    return false;
  end if;
  perform public.nexus_lock_person(p_tenant_id, session.person_key);
  delete from public.prospect_contributions c
  where c.tenant_id = p_tenant_id and c.fingerprint_id in (session.person_key, 'session:' || p_session_id)
    and c.contributed_at <= to_timestamp(p_through_ms / 1000.0)
    and not exists (
      select from public.prospect_sessions s where s.tenant_id = p_tenant_id and s.person_key = session.person_key
    );
  if session.called_with is null then
    perform public.nexus_forget_people(p_tenant_id, array[session.person_key, session.moved_from]);
  else
    -- The installation's own function keeps this row: it is not ours to fold, but it goes with the last session.
    delete from public.prospect_tracking t
    where t.tenant_id = p_tenant_id and t.fingerprint_id = session.person_key and not exists (
      select from public.prospect_sessions s where s.tenant_id = p_tenant_id and s.person_key = session.person_key
    );
  end if;
  return true;
end
$$;

-- Let in again what is said after a moment. How many hashes were kept away.
create function public.nexus_lift(p_tenant_id text, p_subject_hashes text[], p_lifted_at timestamptz) returns integer
language plpgsql volatile security definer
set search_path = ''
as $$
declare
  lifted integer;
begin
  update public.prospect_suppressions u set lifted_at = p_lifted_at
  where u.tenant_id = p_tenant_id and u.subject_hash = any (p_subject_hashes) and u.lifted_at is null;
  get diagnostics lifted = row_count;
  return lifted;
end
$$;

-- Who may do what. nexus_privacy is for operators:
--   create role my_officer login password '…' in role nexus_privacy;
do $$
begin
  if not exists (select from pg_catalog.pg_roles where rolname = 'nexus_privacy') then
    create role nexus_privacy nologin;
  end if;
exception
  -- Roles belong to the whole server: another database's migration may have made it this very moment.
  when duplicate_object or unique_violation then null;
end
$$;

alter table public.prospect_suppressions enable row level security;
alter table public.privacy_audit enable row level security;

create policy nexus_sink_read on public.prospect_suppressions for select to nexus_sink using (true);
create policy nexus_privacy_read on public.prospect_suppressions for select to nexus_privacy using (true);
create policy nexus_privacy_read on public.prospect_sessions for select to nexus_privacy using (true);
create policy nexus_privacy_read on public.prospect_contributions for select to nexus_privacy using (true);
create policy nexus_privacy_read on public.prospect_tracking for select to nexus_privacy using (true);
create policy nexus_privacy_all on public.privacy_audit for all to nexus_privacy using (true) with check (true);

grant usage on schema public to nexus_privacy;
grant select on public.prospect_suppressions to nexus_sink, nexus_privacy;
grant select on public.prospect_sessions, public.prospect_contributions, public.prospect_tracking to nexus_privacy;
grant select, insert, update on public.privacy_audit to nexus_privacy;

do $$
declare
  tables constant text := 'public.prospect_suppressions, public.privacy_audit';
  everybodys constant text := 'public.nexus_subject_hash(text, text, text), '
    'public.nexus_forget_suppressed(text[], text[]), public.nexus_refresh_people(text[], text[]), '
    'public.nexus_contribute(text, text, jsonb)';
  sinks constant text := 'public.nexus_erase_session(text, text, text[], text, timestamptz), '
    'public.nexus_expire_session(text, text, bigint)';
  officers constant text := 'public.nexus_erase_people(text, text[], text), public.nexus_lift(text, text[], timestamptz)';
  inner_ones constant text := 'public.nexus_lock_person(text, text), public.nexus_forget_people(text, text[])';
  role_name text;
begin
  execute format('revoke execute on function %s, %s, %s, %s from public', everybodys, sinks, officers, inner_ones);
  execute format('grant execute on function %s, %s to nexus_sink', everybodys, sinks);
  execute format('grant execute on function %s, %s to nexus_privacy', everybodys, officers);
  for role_name in select rolname from pg_catalog.pg_roles where rolname in ('anon', 'authenticated') loop
    execute format('revoke all on %s from %I', tables, role_name);
    execute format(
      'revoke execute on function %s, %s, %s, %s from %I', everybodys, sinks, officers, inner_ones, role_name
    );
  end loop;
  if exists (select from pg_catalog.pg_roles where rolname = 'service_role') then
    execute format('revoke all on %s from service_role', tables);
    execute format('revoke execute on function %s, %s, %s from service_role', sinks, officers, inner_ones);
    execute format('grant execute on function %s to service_role', everybodys);
    execute 'grant select on public.prospect_suppressions to service_role';
  end if;
end
$$;
