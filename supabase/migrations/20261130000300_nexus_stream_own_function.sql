-- An installation's own update_prospect_data (NEXUS_SINK_MODE=function). That function keeps its rows of
-- prospect_tracking, and the fold leaves those rows alone.

-- Whether the installation has a function of its own.
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

-- Whether the fold can write to prospect_tracking at all. nexus_stream/supabase/tables_mode.py asks the same.
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

-- Whether the installation's own function keeps this person's row. False when the fold wrote the row once.
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

-- The tenant under which the installation's own function keeps a person's row: the person's tenant if the function
-- knows tenants, else ''.
create function public.nexus_called_tenant(p_tenant_id text, p_person_key text) returns text
language sql stable
set search_path = ''
as $$
  select case when exists (
    select from public.prospect_tracking t where t.tenant_id = p_tenant_id and t.fingerprint_id = p_person_key
  ) then p_tenant_id else '' end
$$;

-- A tenant's rows of prospect_tracking: the tenant's own rows, and the rows that a function without tenants keeps for
-- the tenant's sessions. Plain SQL without settings, so that PostgreSQL inlines this function.
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

-- An erasure calls this function before it locks any row. Where the installation has its own function, the lock lets
-- one erasure run at a time, and no sink's batch or call beside it (nexus_keep_erasures_away).
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

-- The other side of that lock: no erasure begins until this transaction ends, and this call waits for a running
-- erasure. A sink calls this function before its upsert. nexus_contribute calls it before it looks for an erasure.
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
