-- Erasures, lifts and retention.
--
-- Only these functions delete rows of sessions, contributions and suppressions. They run with their owner's rights,
-- because the sink's login may not delete sessions. So the sink can erase what a request names, and nothing else.

-- The same as subject_hash in nexus_stream/privacy/subjects.py. Plain SQL without settings, so that PostgreSQL inlines
-- this function.
create function public.nexus_subject_hash(p_tenant_id text, p_kind text, p_value text) returns text
language sql stable parallel safe
as $$
  select encode(sha256(convert_to(p_kind || E'\x1f' || p_tenant_id || E'\x1f' || p_value, 'UTF8')), 'hex')
$$;

-- Delete what is stored of these people (parallel arrays) and was erased. True when there was something to delete.
--
-- nexus_refresh_people calls this function after the fold, with the people's rows locked. A sink may write a session
-- before an erasure is committed and fold the session after it: then this function deletes the session. If the sink
-- folds before the erasure, nexus_lock_person waits for the sink.
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
      -- This also deletes the keys that others wrote.
      delete from public.prospect_tracking t
      where t.tenant_id = person.tenant_id and t.fingerprint_id = person.person_key;
      forgot := forgot or found;
    end if;
  end loop;
  return forgot;
end
$$;

-- Lock a person's row until the end of the transaction, even if there is no row yet: wait for a transaction that is
-- about to insert the row, and let a later transaction wait. Where nexus_lock_sinks keeps such transactions away,
-- insert no row.
create function public.nexus_lock_person(p_tenant_id text, p_person_key text) returns void
language plpgsql volatile security definer
set search_path = ''
as $$
declare
  keeps_sinks_away constant boolean := public.nexus_has_own_function();
begin
  for attempt in 1..10 loop
    if not keeps_sinks_away then
      insert into public.prospect_tracking (tenant_id, fingerprint_id, prospect_data)
      values (p_tenant_id, p_person_key, '{}') on conflict do nothing;
    end if;
    perform from public.prospect_tracking t
    where t.tenant_id = p_tenant_id and t.fingerprint_id = p_person_key for update;
    exit when found or keeps_sinks_away;
    -- An older table may allow a fingerprint once. While another tenant has the row, this person can have none.
    perform from public.prospect_tracking t where t.fingerprint_id = p_person_key for update;
    exit when found;
  end loop;
end
$$;

-- Lock, forget and fold these people, in the one order of locks (nexus_refresh_people_unguarded). p_called: the caller
-- knows that the sink told a session of these people to the installation's own function.
create function public.nexus_forget_people(p_tenant_id text, p_person_keys text[], p_called boolean) returns void
language plpgsql volatile security definer
set search_path = ''
as $$
declare
  can_fold constant boolean := public.nexus_can_fold();
  to_fold text[] := '{}';
  person record;
  forgot boolean;
begin
  for person in
    select k.person_key, public.nexus_is_called(p_tenant_id, k.person_key) or p_called and not exists (
        select from public.prospect_tracking t
        where t.tenant_id = p_tenant_id and t.fingerprint_id = k.person_key and t.folded_at is not null
      ) as is_called, public.nexus_called_tenant(p_tenant_id, k.person_key) as called_tenant
    from (select distinct unnest(p_person_keys) as person_key) k
    where k.person_key is not null
    order by k.person_key like 'session:%' desc, k.person_key collate "C"
  loop
    if can_fold and not person.is_called then
      perform public.nexus_lock_person(p_tenant_id, person.person_key);
      to_fold := to_fold || person.person_key;
      continue;
    end if;
    forgot := public.nexus_forget_suppressed(array[p_tenant_id], array[person.person_key]);
    if person.is_called and (forgot or not exists (
      select from public.prospect_sessions s where s.tenant_id = p_tenant_id and s.person_key = person.person_key
    )) then
      delete from public.prospect_tracking t
      where t.tenant_id = person.called_tenant and t.fingerprint_id = person.person_key;
      -- The sink tells the sessions that stay again, with their next record.
      update public.prospect_sessions s set called_with = null
      where s.tenant_id = p_tenant_id and s.person_key = person.person_key;
    end if;
  end loop;
  -- Delete first, so that the fold reads nothing that was erased.
  perform public.nexus_forget_suppressed(array_fill(p_tenant_id, array[cardinality(to_fold)]), to_fold);
  perform public.nexus_refresh_people(array_fill(p_tenant_id, array[cardinality(to_fold)]), to_fold);
end
$$;

-- Erase one session, and keep the session and its fingerprints away from then on. False when this request was lifted
-- since: the sink meets the request again in a replay. The same request again changes nothing. A lift also covers a
-- request that was made before the lift and arrives after it.
create function public.nexus_erase_session(
  p_tenant_id text, p_session_id text, p_fingerprint_hashes text[], p_request_id text, p_requested_at timestamptz
) returns boolean
language plpgsql volatile security definer
set search_path = ''
as $$
declare
  session public.prospect_sessions%rowtype;
begin
  perform public.nexus_lock_sinks();
  if exists (
    select from public.prospect_suppressions u
    where u.tenant_id = p_tenant_id and u.request_id = p_request_id and u.lifted_at is not null
      and u.subject_hash = public.nexus_subject_hash(p_tenant_id, 'session', p_session_id)
  ) then
    return false;
  end if;
  -- As in nexus_lock_person: wait for a sink that is about to insert this session.
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
    p_tenant_id, array[session.person_key, session.moved_from, 'session:' || p_session_id],
    session.called_with is not null
  );
  return true;
end
$$;

-- Erase people by fingerprint, with all their sessions, and keep them away from then on.
create function public.nexus_erase_people(p_tenant_id text, p_fingerprints text[], p_request_id text) returns void
language plpgsql volatile security definer
set search_path = ''
as $$
begin
  perform public.nexus_lock_sinks();
  insert into public.prospect_suppressions (tenant_id, subject_hash, kind, request_id)
  select distinct p_tenant_id, public.nexus_subject_hash(p_tenant_id, 'fingerprint', fingerprint), 'fingerprint',
    p_request_id
  from unnest(p_fingerprints) fingerprint
  on conflict do nothing;
  perform public.nexus_forget_people(p_tenant_id, p_fingerprints, false);
end
$$;

-- Delete one session that was idle for too long. Later data of the session is stored again. With a person's last
-- session, the contributions about the person that are as old as the session go too.
create function public.nexus_expire_session(p_tenant_id text, p_session_id text, p_through_ms bigint) returns boolean
language plpgsql volatile security definer
set search_path = ''
as $$
declare
  session public.prospect_sessions%rowtype;
  is_called boolean;
  told text;
begin
  perform public.nexus_lock_sinks();
  delete from public.prospect_sessions s
  where s.tenant_id = p_tenant_id and s.session_id = p_session_id and s.snapshot_at_ms <= p_through_ms
  returning s.* into session;
  if not found then
    return false;
  end if;
  is_called := session.called_with is not null and not exists (
    select from public.prospect_tracking t
    where t.tenant_id = p_tenant_id and t.fingerprint_id = session.person_key and t.folded_at is not null
  );
  if not is_called and public.nexus_can_fold() then
    perform public.nexus_lock_person(p_tenant_id, session.person_key);
  end if;
  delete from public.prospect_contributions c
  where c.tenant_id = p_tenant_id and c.fingerprint_id in (session.person_key, 'session:' || p_session_id)
    and c.contributed_at <= to_timestamp(p_through_ms / 1000.0)
    and not exists (
      select from public.prospect_sessions s where s.tenant_id = p_tenant_id and s.person_key = session.person_key
    );
  if not is_called then
    perform public.nexus_forget_people(p_tenant_id, array[session.person_key, session.moved_from], false);
    return true;
  end if;
  -- The installation's own function keeps these rows, so the fold leaves them alone. Several tenants may share a row:
  -- delete it with the last session of all tenants.
  foreach told in array array[session.person_key, session.moved_from] loop
    if told is not null and not exists (
      with recursive tenants (tenant_id) as (
        select min(s.tenant_id) from public.prospect_sessions s
        union all
        select (select min(s.tenant_id) from public.prospect_sessions s where s.tenant_id > t.tenant_id)
        from tenants t where t.tenant_id is not null
      )
      select from tenants t join public.prospect_sessions s on s.tenant_id = t.tenant_id and s.person_key = told
    ) then
      delete from public.prospect_tracking t
      where t.tenant_id = public.nexus_called_tenant(p_tenant_id, told) and t.fingerprint_id = told;
    end if;
  end loop;
  return true;
end
$$;

-- Let these subjects in again, for data after a moment. Returns the number of lifted suppressions.
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
