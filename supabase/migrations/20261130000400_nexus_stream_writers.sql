-- The writers of prospect_tracking: nexus_refresh_people for the sink, update_prospect_data for everybody else.

-- Fold these people again (parallel arrays; a person may come twice), and return the number of changed rows. For
-- nexus_refresh_people only, which deletes afterwards what was erased.
--
-- Needs READ COMMITTED: each statement of a volatile function then sees what is committed by that time. A person's row
-- is the lock. A second transaction for the same person waits for the first, and then folds what both wrote. All
-- transactions lock in one order, in one statement, so concurrent sinks wait for each other and never deadlock.
--
-- Sequential scans are off, because PostgreSQL keeps plans: a plan made on empty tables would stay when the tables are
-- full.
create function public.nexus_refresh_people_unguarded(p_tenant_ids text[], p_person_keys text[]) returns integer
language plpgsql volatile
set search_path = ''
set enable_seqscan = off
set jit = off
as $$
declare
  tenant_ids text[];
  person_keys text[];
  seen pg_catalog.pg_snapshot;
  -- The people to fold in step 3.
  due_tenant_ids text[];
  due_person_keys text[];
  changed integer := 0;
  locked integer;
  has_unfolded boolean;
  moved_count integer;
begin
  -- Sessions first: step 3 moves what others wrote on a session's row, and then folds the fingerprint it moves to.
  select array_agg(p.tenant_id order by p.is_session desc, p.tenant_id collate "C", p.person_key collate "C"),
    array_agg(p.person_key order by p.is_session desc, p.tenant_id collate "C", p.person_key collate "C")
  into tenant_ids, person_keys
  from (
    select distinct u.tenant_id, u.person_key, u.person_key like 'session:%' as is_session
    from unnest(p_tenant_ids, p_person_keys) as u (tenant_id, person_key)
    where u.person_key is not null
  ) p;
  if tenant_ids is null then
    return 0;
  end if;

  -- 1. Lock the rows that are there, and make the rows that are missing.
  if exists (
    select from unnest(tenant_ids, person_keys) as u (tenant_id, person_key)
    where not exists (
      select from public.prospect_tracking t where t.tenant_id = u.tenant_id and t.fingerprint_id = u.person_key
    )
  ) then
    seen := pg_catalog.pg_current_snapshot();
    -- One statement keeps the order of locks. DO UPDATE locks a row even where its condition is false.
    with people as materialized (
      select u.tenant_id, u.person_key, u.place, t.fingerprint_id is not null as known, t.folded_at,
        case when t.fingerprint_id is null then f.data else t.prospect_data end as data
      from unnest(tenant_ids, person_keys) with ordinality as u (tenant_id, person_key, place)
      left join public.prospect_tracking t on t.tenant_id = u.tenant_id and t.fingerprint_id = u.person_key
      left join lateral public.nexus_fold(u.tenant_id, u.person_key) as f (data) on t.fingerprint_id is null
    ),
    made_rows as (
      insert into public.prospect_tracking as t (tenant_id, fingerprint_id, prospect_data, merged_keys, folded_at)
      select p.tenant_id, p.person_key, coalesce(p.data, '{}'),
        case when p.known or p.data - public.nexus_standard_keys() = '{}'::jsonb then '{}'
          else public.nexus_other_keys(p.data) end,
        case when not p.known then now() end
      from people p
      where p.known or p.data is not null
      order by p.place
      on conflict (tenant_id, fingerprint_id) do update set fingerprint_id = excluded.fingerprint_id where false
      returning t.tenant_id, t.fingerprint_id
    )
    select count(m.tenant_id), array_agg(p.tenant_id) filter (where m.tenant_id is null),
      array_agg(p.person_key) filter (where m.tenant_id is null),
      bool_or(m.tenant_id is null and p.folded_at is null)
    into changed, due_tenant_ids, due_person_keys, has_unfolded
    from people p left join made_rows m on m.tenant_id = p.tenant_id and m.fingerprint_id = p.person_key;
    -- A row that was just made holds its fold. If somebody committed meanwhile, that fold may have missed a session.
    if seen::text <> pg_catalog.pg_current_snapshot()::text then
      due_tenant_ids := tenant_ids;
      due_person_keys := person_keys;
    end if;
  else
    due_tenant_ids := tenant_ids;
    due_person_keys := person_keys;
    with locked_rows as materialized (
      select t.folded_at
      from unnest(tenant_ids, person_keys) with ordinality as u (tenant_id, person_key, place)
      join public.prospect_tracking t on t.tenant_id = u.tenant_id and t.fingerprint_id = u.person_key
      order by u.place
      for update of t
    )
    select count(*), bool_or(l.folded_at is null) into locked, has_unfolded from locked_rows l;
    if locked < cardinality(tenant_ids) then
      -- Somebody deleted a row a moment ago, because its sessions moved. If a session is left, make the row again.
      return public.nexus_refresh_people(tenant_ids, person_keys);
    end if;
  end if;

  -- 2. Others filled a row that the fold never wrote. Keep its content as a contribution of that time.
  if has_unfolded then
    insert into public.prospect_contributions (tenant_id, fingerprint_id, contribution_id, data, contributed_at)
    select t.tenant_id, t.fingerprint_id, encode(sha256(convert_to(t.prospect_data::text, 'UTF8')), 'hex'),
      t.prospect_data, case when isfinite(t.updated_at) then t.updated_at else now() end
    from unnest(due_tenant_ids, due_person_keys) as u (tenant_id, person_key)
    join public.prospect_tracking t on t.tenant_id = u.tenant_id and t.fingerprint_id = u.person_key
    where t.folded_at is null and t.erased_at is null
      and jsonb_typeof(t.prospect_data) = 'object' and t.prospect_data <> '{}'::jsonb
    on conflict do nothing;
  end if;

  -- 3. Fold the people of the locked rows, which nobody else can change now.
  for pass in 1..2 loop
    exit when due_tenant_ids is null;
    with folded as materialized (
      select g.*, g.others || coalesce(g.data, '{}') as new_data,
        case when g.data is null or g.data - public.nexus_standard_keys() = '{}'::jsonb then '{}'
          else public.nexus_other_keys(g.data) end as new_keys
      from (
        select t.tenant_id, t.fingerprint_id, t.prospect_data, t.merged_keys, t.folded_at, t.updated_at, f.data,
          coalesce(t.prospect_data, '{}') - public.nexus_standard_keys() - t.merged_keys as others
        from unnest(due_tenant_ids, due_person_keys) as u (tenant_id, person_key)
        join public.prospect_tracking t on t.tenant_id = u.tenant_id and t.fingerprint_id = u.person_key
        cross join lateral public.nexus_fold(t.tenant_id, t.fingerprint_id) as f (data)
        where (u.person_key like 'session:%') = (pass = 1) and t.erased_at is null
      ) g
    ),
    -- The session has a fingerprint now: what others wrote on the session's row moves to that fingerprint.
    moving as materialized (
      select f.*
      from folded f
      join public.prospect_sessions s on s.tenant_id = f.tenant_id and s.session_id = substr(f.fingerprint_id, 9)
      where pass = 1 and f.data is null and f.others <> '{}'::jsonb
        and s.fingerprint is not null and s.erased_at is null
    ),
    moved as (
      insert into public.prospect_contributions (tenant_id, fingerprint_id, contribution_id, data, contributed_at)
      select m.tenant_id, m.fingerprint_id, encode(sha256(convert_to(m.others::text, 'UTF8')), 'hex'), m.others,
        m.updated_at
      from moving m
      on conflict do nothing
      returning 1
    ),
    deleted as (
      delete from public.prospect_tracking t
      using folded f
      where t.tenant_id = f.tenant_id and t.fingerprint_id = f.fingerprint_id and f.data is null
        and (f.others = '{}'::jsonb or (f.tenant_id, f.fingerprint_id) in (
          select m.tenant_id, m.fingerprint_id from moving m
        ))
      returning 1
    ),
    updated as (
      update public.prospect_tracking t
      set prospect_data = f.new_data, merged_keys = f.new_keys, folded_at = now(),
        updated_at = case when f.prospect_data = f.new_data then t.updated_at else clock_timestamp() end
      from folded f
      where t.tenant_id = f.tenant_id and t.fingerprint_id = f.fingerprint_id
        and (f.prospect_data is distinct from f.new_data or f.merged_keys <> f.new_keys or f.folded_at is null)
        and (f.data is not null or f.others <> '{}'::jsonb and (f.tenant_id, f.fingerprint_id) not in (
          select m.tenant_id, m.fingerprint_id from moving m
        ))
      returning f.prospect_data is distinct from f.new_data as is_change
    )
    select changed + (select count(*) from deleted) + (select count(*) from updated u where u.is_change),
      (select count(*) from moved)
    into changed, moved_count;
    if moved_count > 0 then
      due_tenant_ids := tenant_ids;
      due_person_keys := person_keys;
    end if;
  end loop;
  return changed;
end
$$;

-- Fold these people again, delete what was erased and the fold must not have read, and return the number of changed
-- rows.
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

-- Add what somebody says about a person. Returns {"success": true, "fingerprint_id": …, "changed": …}, or {"success":
-- false, "error": …}. A refusal raises no SQL error.
--
-- p_data holds the standard keys (nombre, email, …), any other keys, and "signals", for example ["correccion_nombre"].
create function public.nexus_contribute(p_tenant_id text, p_fingerprint_id text, p_data jsonb) returns jsonb
language plpgsql volatile
set search_path = ''
as $$
declare
  max_calls constant integer := 2000;
  contribution text;
  person_key text := p_fingerprint_id;
  changed integer;
begin
  perform public.nexus_keep_erasures_away();
  if exists (
    select from public.prospect_suppressions u
    where u.tenant_id = p_tenant_id and u.lifted_at is null
      and u.subject_hash = public.nexus_subject_hash(p_tenant_id, 'fingerprint', p_fingerprint_id)
  ) then
    return jsonb_build_object('success', false, 'error', 'this person was erased');
  end if;
  if coalesce(p_fingerprint_id, '') = '' then
    return jsonb_build_object('success', false, 'error', 'p_fingerprint_id is required');
  end if;
  if jsonb_typeof(p_data) is distinct from 'object' then
    return jsonb_build_object('success', false, 'error', 'p_data must be a JSON object');
  end if;
  if p_fingerprint_id like 'session:%' then
    -- The lock keeps the session from moving to another person before the fold.
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

-- An installation may have update_prospect_data already. Other programs rely on it, so it stays. Ours is left out where
-- a call with two arguments would be ambiguous, or would come to ours.
do $$
begin
  if exists (
    select from pg_catalog.pg_proc p
    where p.pronamespace = 'public'::regnamespace and p.proname = 'update_prospect_data' and (
      p.prokind = 'f' and p.pronargs - p.pronargdefaults <= 2
      or p.oid = to_regprocedure('public.update_prospect_data(text, jsonb)')
      or p.oid = to_regprocedure('public.update_prospect_data(text, jsonb, uuid)')
    )
  ) then
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
