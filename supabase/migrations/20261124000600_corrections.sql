-- Corrections to the functions of the files before, which an installation may have applied already.
--
-- Nothing of an installation's own is changed, and no row is.

-- An update_prospect_data of our own beside an installation's: calls with two arguments would be ambiguous, or come to ours.
do $$
declare
  ours constant oid := to_regprocedure('public.update_prospect_data(text, jsonb)');
begin
  if obj_description(ours, 'pg_proc') like '%Made by nexus-stream.' and exists (
    select from pg_catalog.pg_proc p
    where p.pronamespace = 'public'::regnamespace and p.proname = 'update_prospect_data' and p.prokind = 'f'
      and p.oid <> ours and p.pronargs - p.pronargdefaults <= 2
  ) then
    drop function public.update_prospect_data(text, jsonb);
    raise notice 'update_prospect_data existed already: ours was taken away again';
  end if;
end
$$;

-- A JSON string without surrounding white space, Unicode's and what has no width included; null for anything empty and
-- for what is no string.
create or replace function public.nexus_text(p_value jsonb) returns text
language sql immutable parallel safe
as $$
  select case when jsonb_typeof(p_value) = 'string' then nullif(btrim(p_value #>> '{}',
    E' \t\n\u000b\f\r\u0085\u00a0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a\u200b\u200c\u200d'
    '\u2028\u2029\u202f\u205f\u2060\u3000\ufeff'), '') end
$$;

-- Whether these words (nexus_name_words) were never a name: initials alone, and what was once taken for one.
create function public.nexus_no_name(p_words text[]) returns boolean
language sql immutable parallel safe
as $$
  select array_to_string(p_words, ' ') = any (array['yo', 'acepto', 'visionario', 'visionaria', 'el pequeno', 'la pequena',
      'si', 'no', 'ok', 'hola', 'gracias', 'usuario', 'asistente', 'nombre'])
    or not exists (select from unnest(p_words) w where length(rtrim(w, '.,')) > 1)
$$;

-- The better of a known name and a newer one. One that says the same or less never wins: known words, their initials or
-- their beginnings, one name instead of name and surname, or what is no name. Another name is newer news.
create or replace function public.nexus_better_name(p_known text, p_new text) returns text
language plpgsql immutable parallel safe
set search_path = ''
as $$
declare
  -- In a name's count, these and initials say nothing.
  particles constant text[] := array['de', 'del', 'la', 'las', 'los', 'da', 'do', 'dos', 'di', 'von', 'van', 'der', 'y'];
  known_words text[] := public.nexus_name_words(p_known);
  new_words text[] := public.nexus_name_words(p_new);
begin
  if new_words <@ known_words then
    -- The same words: keep the known spelling, unless it was typed all in lower case and the new one was not.
    if known_words <@ new_words and p_known = lower(p_known) and p_new <> lower(p_new) then
      return p_new;
    end if;
    return p_known;
  end if;
  if known_words <@ new_words then
    return p_new;
  end if;
  if public.nexus_no_name(new_words) then
    return p_known;
  end if;
  if public.nexus_no_name(known_words) then
    return p_new;
  end if;
  if not exists (
    select from unnest(new_words) n
    where not exists (select from unnest(known_words) k where starts_with(k, rtrim(n, '.,')))
  ) then
    return p_known;
  end if;
  if (select count(*) from unnest(new_words) n where length(rtrim(n, '.,')) > 1 and n <> all (particles)) < 2
    and (select count(*) from unnest(known_words) k where length(rtrim(k, '.,')) > 1 and k <> all (particles)) > 1 then
    return p_known;
  end if;
  return p_new;
end
$$;

-- All that is known about a person: their sessions, calls made to them, and calls made to their sessions before those had
-- a fingerprint. Plain SQL without settings, so that it is inlined into the fold of many people.
--
-- Of more than 2,000 sessions only the first count. No person has so many, but anybody can open sessions in a person's
-- name: so they can neither make every fold slower without end, nor push out what was known before. Calls all count, after
-- however many sessions: nexus_contribute takes no more than 2,000.
create or replace function public.nexus_facts_about(p_tenant_id text, p_person_key text)
returns table (at_us bigint, session_id text, id text, data jsonb)
language sql stable
as $$
  select f.at_us, f.session_id, f.session_id, f.record
  from (
    select s.snapshot_at_ms * 1000 as at_us, s.session_id, s.record
    from public.prospect_sessions s
    where s.tenant_id = p_tenant_id and s.person_key = p_person_key and s.erased_at is null
    order by s.snapshot_at_ms, s.session_id collate "C"
    limit 2000
  ) f
  union all
  select (extract(epoch from c.contributed_at) * 1000000)::bigint, null, c.contribution_id, c.data
  from public.prospect_contributions c
  where c.tenant_id = p_tenant_id and c.fingerprint_id = p_person_key
    -- Made to a session without fingerprint that has one by now: it counts there, below.
    and not exists (
      select from public.prospect_sessions s
      where c.fingerprint_id like 'session:%' and s.tenant_id = c.tenant_id
        and s.session_id = substr(c.fingerprint_id, 9) and s.fingerprint is not null
    )
  union all
  select (extract(epoch from c.contributed_at) * 1000000)::bigint, null, c.contribution_id, c.data
  from public.prospect_sessions s
  join public.prospect_contributions c on c.tenant_id = s.tenant_id and c.fingerprint_id = 'session:' || s.session_id
  where s.tenant_id = p_tenant_id and s.person_key = p_person_key and s.fingerprint is not null and s.erased_at is null
$$;

-- One person's prospect_data: null when nothing is known about them (any more). In the order of (time, sessions before
-- calls, id). One row; a set for the sake of inlining.
create or replace function public.nexus_fold(p_tenant_id text, p_person_key text) returns setof jsonb
language sql stable
as $$
  select public.nexus_merge(
    array_agg(f.data), array_agg(f.session_id is not null),
    array_agg(f.session_id) filter (where f.session_id is not null)
  )
  from (
    select a.session_id, a.data from public.nexus_facts_about(p_tenant_id, p_person_key) a
    order by a.at_us, a.session_id is null, a.id collate "C"
  ) f
$$;

-- Add what somebody says about a person: see nexus_contribute. A caller learns when it cannot be taken in.
create or replace function public.nexus_contribute_unguarded(p_tenant_id text, p_fingerprint_id text, p_data jsonb)
returns jsonb
language plpgsql volatile
set search_path = ''
as $$
declare
  max_calls constant integer := 2000;
  contribution text;
  person_key text := p_fingerprint_id;
  changed integer;
begin
  if coalesce(p_fingerprint_id, '') = '' then
    return jsonb_build_object('success', false, 'error', 'p_fingerprint_id is required');
  end if;
  if jsonb_typeof(p_data) is distinct from 'object' then
    return jsonb_build_object('success', false, 'error', 'p_data must be a JSON object');
  end if;
  if p_fingerprint_id like 'session:%' then
    -- Locked, so that the session cannot move to another person between this look and the fold.
    select s.person_key into person_key from public.prospect_sessions s
    where s.tenant_id = p_tenant_id and s.session_id = substr(p_fingerprint_id, 9) and s.erased_at is null
    for update;
    if not found then
      return jsonb_build_object('success', false, 'error', 'no such session');
    end if;
  end if;
  if exists (
    select from public.prospect_tracking t
    where t.tenant_id = p_tenant_id and t.fingerprint_id = person_key and t.erased_at is not null
  ) then
    return jsonb_build_object('success', false, 'error', 'this person was erased');
  end if;
  contribution := encode(sha256(convert_to(p_data::text, 'UTF8')), 'hex');
  if not exists (
    select from public.prospect_contributions c
    where c.tenant_id = p_tenant_id and c.fingerprint_id = p_fingerprint_id and c.contribution_id = contribution
  ) and (
    select count(*) from (
      select from public.nexus_facts_about(p_tenant_id, person_key) a where a.session_id is null limit max_calls
    ) calls
  ) = max_calls then
    return jsonb_build_object(
      'success', false, 'error', format('%s different calls about this person are kept, and no more', max_calls)
    );
  end if;
  insert into public.prospect_contributions as c (tenant_id, fingerprint_id, contribution_id, data, contributed_at)
  values (p_tenant_id, p_fingerprint_id, contribution, p_data, clock_timestamp())
  on conflict (tenant_id, fingerprint_id, contribution_id) do update
  set contributed_at = greatest(c.contributed_at, excluded.contributed_at);
  changed := public.nexus_refresh_people(array[p_tenant_id], array[person_key]);
  return jsonb_build_object('success', true, 'fingerprint_id', person_key, 'changed', changed > 0);
end
$$;

-- Erasing where an installation's own update_prospect_data keeps the rows (NEXUS_SINK_MODE=function): such a row is not
-- ours to fold, and may be one that we could not even insert.

-- Whether this installation has a function of its own.
create function public.nexus_has_own_function() returns boolean
language sql stable
set search_path = ''
as $$
  select exists (
    select from pg_catalog.pg_proc p
    where p.pronamespace = 'public'::regnamespace and p.proname = 'update_prospect_data' and p.prokind = 'f'
      and coalesce(obj_description(p.oid, 'pg_proc'), '') not like '%Made by nexus-stream.'
  )
$$;

-- Whether the fold can write to prospect_tracking at all. As nexus_stream/supabase/tables_mode.py asks.
create function public.nexus_can_fold() returns boolean
language sql stable
set search_path = ''
as $$
  select not exists (
    select from pg_catalog.pg_attribute a
    where a.attrelid = 'public.prospect_tracking'::regclass and a.attnum > 0 and not a.attisdropped
      and a.attnotnull and not a.atthasdef and a.attidentity = '' and a.attgenerated = ''
      and a.attname not in ('tenant_id', 'fingerprint_id', 'prospect_data', 'merged_keys')
  ) and exists (
    select from pg_catalog.pg_index i
    where i.indrelid = 'public.prospect_tracking'::regclass
      and i.indisunique and i.indimmediate and i.indpred is null and i.indexprs is null
      and (
        select array_agg(a.attname::text order by a.attname) from pg_catalog.pg_attribute a
        where a.attrelid = i.indrelid and a.attnum = any (i.indkey::int2[])
      ) = array['fingerprint_id', 'tenant_id']
  )
$$;

-- Beside an installation's own function, one erasure at a time, and none beside a sink's batch or a call: those hold this
-- lock together (nexus_keep_erasures_away). Before any row is locked, by all of them.
create function public.nexus_lock_sinks() returns void
language plpgsql volatile
set search_path = ''
as $$
begin
  if public.nexus_has_own_function() then
    perform pg_catalog.pg_advisory_xact_lock(7303014261125);
  end if;
end
$$;

-- The other side of it: no erasure begins until this transaction ends, and one that has begun is waited for. A sink asks
-- for it before its upsert, a call before it looks whether the person was erased.
create function public.nexus_keep_erasures_away() returns void
language plpgsql volatile security definer
set search_path = ''
as $$
begin
  if public.nexus_has_own_function() then
    perform pg_catalog.pg_advisory_xact_lock_shared(7303014261125);
  end if;
end
$$;

-- What somebody outside says about a person, unless the person was erased. See nexus_contribute_unguarded.
create or replace function public.nexus_contribute(p_tenant_id text, p_fingerprint_id text, p_data jsonb) returns jsonb
language plpgsql volatile
set search_path = ''
as $$
begin
  perform public.nexus_keep_erasures_away();
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

-- Whether the installation's own function keeps this person's row, and the fold never wrote it.
create function public.nexus_is_called(p_tenant_id text, p_person_key text) returns boolean
language sql stable
set search_path = ''
as $$
  select exists (
    select from public.prospect_sessions s
    where s.tenant_id = p_tenant_id and s.person_key = p_person_key and s.called_with is not null
  ) and not exists (
    select from public.prospect_tracking t
    where t.tenant_id = p_tenant_id and t.fingerprint_id = p_person_key and t.folded_at is not null
  )
$$;

-- A tenant's rows of prospect_tracking: its own, and those that an installation's function, which knows no tenants, keeps
-- for its sessions. Plain SQL without settings, so that it is inlined.
create function public.nexus_rows_of(p_tenant_id text) returns setof public.prospect_tracking
language sql stable
as $$
  select t.* from public.prospect_tracking t where t.tenant_id = p_tenant_id
  union all
  select t.* from public.prospect_tracking t
  where p_tenant_id <> '' and t.tenant_id = '' and t.folded_at is null
    and exists (
      select from public.prospect_sessions s
      where s.tenant_id = p_tenant_id and s.person_key = t.fingerprint_id and s.called_with is not null
    )
    and not exists (
      select from public.prospect_tracking o
      where o.tenant_id = p_tenant_id and o.fingerprint_id = t.fingerprint_id
    )
$$;

-- Under which tenant the installation's own function keeps a person's row: theirs if it knows tenants, else none.
create function public.nexus_called_tenant(p_tenant_id text, p_person_key text) returns text
language sql stable
set search_path = ''
as $$
  select case when exists (
    select from public.prospect_tracking t where t.tenant_id = p_tenant_id and t.fingerprint_id = p_person_key
  ) then p_tenant_id else '' end
$$;

-- Hold a person's row until the end of the transaction, also one that is not there: a transaction that is about to insert
-- it is waited for, and one that comes later waits. Where nexus_lock_sinks keeps those away, none is put there.
create or replace function public.nexus_lock_person(p_tenant_id text, p_person_key text) returns void
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
    -- An older table may allow a fingerprint once: while another tenant has it, this person can have no row.
    perform from public.prospect_tracking t where t.fingerprint_id = p_person_key for update;
    exit when found;
  end loop;
end
$$;

-- Lock, forget and fold these people, in the order in which everybody locks them (nexus_refresh_people_unguarded). With
-- p_called, a session of theirs is known to have been told to the installation's own function.
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
      -- Whatever may stay is told anew with its next record.
      update public.prospect_sessions s set called_with = null
      where s.tenant_id = p_tenant_id and s.person_key = person.person_key;
    end if;
  end loop;
  -- First, so that nothing is folded that must not be stored.
  perform public.nexus_forget_suppressed(array_fill(p_tenant_id, array[cardinality(to_fold)]), to_fold);
  perform public.nexus_refresh_people(array_fill(p_tenant_id, array[cardinality(to_fold)]), to_fold);
end
$$;

create or replace function public.nexus_forget_people(p_tenant_id text, p_person_keys text[]) returns void
language sql volatile security definer
set search_path = ''
as $$
  select public.nexus_forget_people(p_tenant_id, p_person_keys, false)
$$;

-- Erase one session and let nothing of it, or of its fingerprints, back in. False when this very request was lifted since:
-- the sink reads it again, in a replay. The same request again changes nothing. One that was made before a lift but
-- arrives after it is covered by the lift.
create or replace function public.nexus_erase_session(
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
    p_tenant_id, array[session.person_key, session.moved_from, 'session:' || p_session_id],
    session.called_with is not null
  );
  return true;
end
$$;

-- Erase people by fingerprint, with every session of theirs, and let nothing back in.
create or replace function public.nexus_erase_people(p_tenant_id text, p_fingerprints text[], p_request_id text)
returns void
language plpgsql volatile security definer
set search_path = ''
as $$
begin
  perform public.nexus_lock_sinks();
  insert into public.prospect_suppressions (tenant_id, subject_hash, kind, request_id)
  select distinct p_tenant_id, public.nexus_subject_hash(p_tenant_id, 'fingerprint', fingerprint), 'fingerprint', p_request_id
  from unnest(p_fingerprints) fingerprint
  on conflict do nothing;
  perform public.nexus_forget_people(p_tenant_id, p_fingerprints, false);
end
$$;

-- Delete one session that was idle for too long; what is said later is stored again. What others said about the person
-- goes with their last session, as far as it is as old.
create or replace function public.nexus_expire_session(p_tenant_id text, p_session_id text, p_through_ms bigint)
returns boolean
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
  -- The installation's own function keeps these rows: they are not ours to fold, but go with the last session, of
  -- whichever tenant: one row may be that of several.
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

-- Who may do what with what is new; what was replaced keeps its access.
do $$
declare
  sinks constant text := 'public.nexus_no_name(text[]), public.nexus_keep_erasures_away()';
  officers constant text := 'public.nexus_rows_of(text)';
  inner_ones constant text := 'public.nexus_has_own_function(), public.nexus_can_fold(), public.nexus_lock_sinks(), '
    'public.nexus_is_called(text, text), public.nexus_called_tenant(text, text), '
    'public.nexus_forget_people(text, text[], boolean)';
  role_name text;
begin
  execute format('revoke execute on function %s, %s, %s from public', sinks, officers, inner_ones);
  execute format('grant execute on function %s to nexus_sink', sinks);
  execute format('grant execute on function %s to nexus_privacy', officers);
  for role_name in select rolname from pg_catalog.pg_roles where rolname in ('anon', 'authenticated') loop
    execute format('revoke execute on function %s, %s, %s from %I', sinks, officers, inner_ones, role_name);
  end loop;
  if exists (select from pg_catalog.pg_roles where rolname = 'service_role') then
    execute format('revoke execute on function %s, %s from service_role', officers, inner_ones);
    execute format('grant execute on function %s to service_role', sinks);
  end if;
end
$$;
