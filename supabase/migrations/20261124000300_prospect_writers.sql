-- What writes prospect_tracking: nexus_refresh_people for the sink, update_prospect_data for everybody else.

-- Recompute one person's row. True when prospect_data changed.
--
-- Called under READ COMMITTED, where each statement of a volatile function sees what is committed by then. The person's
-- row is the lock: a second transaction that touches the person waits for the first and then folds what both wrote.
create function public.nexus_refresh_person(p_tenant_id text, p_person_key text) returns boolean
language plpgsql volatile
set search_path = ''
as $$
declare
  stored public.prospect_tracking%rowtype;
  folded jsonb;
  others jsonb;
  keys text[];
begin
  loop
    select * into stored from public.prospect_tracking t
    where t.tenant_id = p_tenant_id and t.fingerprint_id = p_person_key
    for update;
    exit when found;

    folded := public.nexus_fold(p_tenant_id, p_person_key);
    if folded is null then
      return false;
    end if;
    select coalesce(array_agg(k order by k), '{}') into keys
    from jsonb_object_keys(folded - public.nexus_standard_keys()) k;
    insert into public.prospect_tracking as t (tenant_id, fingerprint_id, prospect_data, merged_keys)
    values (p_tenant_id, p_person_key, folded, keys)
    on conflict (tenant_id, fingerprint_id) do nothing;
    if found then
      -- From here on the row is ours. What was committed between the fold and the insert is folded now.
      if public.nexus_fold(p_tenant_id, p_person_key) is not distinct from folded then
        return true;
      end if;
    end if;
  end loop;

  if stored.erased_at is not null then
    return false;
  end if;
  folded := public.nexus_fold(p_tenant_id, p_person_key);
  others := coalesce(stored.prospect_data, '{}') - public.nexus_standard_keys() - stored.merged_keys;
  if folded is null and others <> '{}'::jsonb and p_person_key like 'session:%' then
    -- The session has a fingerprint now: what others wrote on its row goes with it.
    insert into public.prospect_contributions (tenant_id, fingerprint_id, contribution_id, data, contributed_at)
    select p_tenant_id, p_person_key, encode(sha256(convert_to(others::text, 'UTF8')), 'hex'), others, stored.updated_at
    from public.prospect_sessions s
    where s.tenant_id = p_tenant_id and s.session_id = substr(p_person_key, 9)
      and s.fingerprint is not null and s.erased_at is null
    on conflict do nothing;
    if found then
      others := '{}';
    end if;
  end if;
  if folded is null and others = '{}'::jsonb then
    delete from public.prospect_tracking t
    where t.tenant_id = p_tenant_id and t.fingerprint_id = p_person_key;
    return true;
  end if;

  select coalesce(array_agg(k order by k), '{}') into keys
  from jsonb_object_keys(folded - public.nexus_standard_keys()) k;
  folded := others || coalesce(folded, '{}');
  if folded is not distinct from stored.prospect_data then
    if keys is distinct from stored.merged_keys then
      update public.prospect_tracking t set merged_keys = keys
      where t.tenant_id = p_tenant_id and t.fingerprint_id = p_person_key;
    end if;
    return false;
  end if;
  update public.prospect_tracking t
  set prospect_data = folded, merged_keys = keys, updated_at = clock_timestamp()
  where t.tenant_id = p_tenant_id and t.fingerprint_id = p_person_key;
  return true;
end
$$;

-- Recompute the rows of these people (parallel arrays; the same person may come twice). How many changed.
--
-- One order for everybody, so that concurrent sinks wait for each other instead of deadlocking. Sessions first: what
-- others wrote on a session's row must be on its way before the fingerprint it moves to is folded.
create function public.nexus_refresh_people(p_tenant_ids text[], p_person_keys text[]) returns integer
language plpgsql volatile
set search_path = ''
as $$
declare
  person record;
  changed integer := 0;
begin
  for person in
    select p.tenant_id, p.person_key
    from (
      select distinct u.tenant_id, u.person_key from unnest(p_tenant_ids, p_person_keys) as u (tenant_id, person_key)
    ) p
    where p.person_key is not null
    -- Not in the select list: a collation handed on would keep the lookups from their indexes.
    order by p.person_key like 'session:%' desc, p.tenant_id collate "C", p.person_key collate "C"
  loop
    if public.nexus_refresh_person(person.tenant_id, person.person_key) then
      changed := changed + 1;
    end if;
  end loop;
  return changed;
end
$$;

-- Add what somebody says about a person: {"success": true, "fingerprint_id": …, "changed": …}, or
-- {"success": false, "error": …} without an SQL error.
--
-- p_data holds the standard keys (nombre, email, …), any others, and "signals": ["correccion_nombre"], say, to correct.
create function public.nexus_contribute(p_tenant_id text, p_fingerprint_id text, p_data jsonb) returns jsonb
language plpgsql volatile
set search_path = ''
as $$
declare
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
  insert into public.prospect_contributions as c (tenant_id, fingerprint_id, contribution_id, data, contributed_at)
  values (p_tenant_id, p_fingerprint_id, encode(sha256(convert_to(p_data::text, 'UTF8')), 'hex'), p_data, clock_timestamp())
  on conflict (tenant_id, fingerprint_id, contribution_id) do update
  set contributed_at = greatest(c.contributed_at, excluded.contributed_at);
  changed := public.nexus_refresh_people(array[p_tenant_id], array[person_key]);
  return jsonb_build_object('success', true, 'fingerprint_id', person_key, 'changed', changed > 0);
end
$$;

-- An installation may have this function already, and others rely on what it does: then it stays.
do $$
begin
  if to_regprocedure('public.update_prospect_data(text, jsonb)') is not null
    or to_regprocedure('public.update_prospect_data(text, jsonb, uuid)') is not null then
    raise notice 'update_prospect_data exists already and was left as it is';
    return;
  end if;
  create function public.update_prospect_data(p_fingerprint_id text, p_data jsonb) returns jsonb
  language sql volatile
  set search_path = ''
  as $function$
    select public.nexus_contribute('', p_fingerprint_id, p_data)
  $function$;
  comment on function public.update_prospect_data(text, jsonb) is
    'Adds what somebody says about a person. Made by nexus-stream.';
end
$$;
