-- Who may do what. nexus_sink can only write and fold prospects; the sink's login is a member of it:
--   create role my_sink login password '…' in role nexus_sink;
-- Browsers (anon, authenticated) get nothing. Supabase's roles are named only where they exist.
do $$
begin
  if not exists (select from pg_catalog.pg_roles where rolname = 'nexus_sink') then
    create role nexus_sink nologin;
  end if;
exception
  -- Roles belong to the whole server: another database's migration may have made it this very moment.
  when duplicate_object or unique_violation then null;
end
$$;

alter table public.prospect_sessions enable row level security;
alter table public.prospect_contributions enable row level security;

create policy nexus_sink_all on public.prospect_tracking for all to nexus_sink using (true) with check (true);
create policy nexus_sink_all on public.prospect_sessions for all to nexus_sink using (true) with check (true);
create policy nexus_sink_all on public.prospect_contributions for all to nexus_sink using (true) with check (true);

grant usage on schema public to nexus_sink;
grant select, insert, update, delete on public.prospect_tracking to nexus_sink;
grant select, insert, update on public.prospect_sessions to nexus_sink;
grant select, insert, update on public.prospect_contributions to nexus_sink;

-- Functions are open to everybody by default, and Supabase grants everything in public to its browser roles.
-- A prospect_tracking or update_prospect_data that was here before keeps the access its users rely on.
do $$
declare
  ours constant text := '%Made by nexus-stream.';
  tables text := 'public.prospect_sessions, public.prospect_contributions';
  routines text := 'public.nexus_standard_keys(), public.nexus_other_keys(jsonb), public.nexus_text(jsonb), '
    'public.nexus_name_words(text), public.nexus_better_name(text, text), public.nexus_valid_email(text), '
    'public.nexus_valid_phone(text), public.nexus_level(text, text, text, boolean, boolean), '
    'public.nexus_facts_about(text, text), '
    'public.nexus_merge(jsonb[], boolean[], text[]), public.nexus_fold(text, text), '
    'public.nexus_refresh_people(text[], text[]), public.nexus_contribute(text, text, jsonb)';
  role_name text;
begin
  if obj_description('public.prospect_tracking'::regclass, 'pg_class') like ours then
    alter table public.prospect_tracking enable row level security;
    tables := tables || ', public.prospect_tracking';
  end if;
  if obj_description(to_regprocedure('public.update_prospect_data(text, jsonb)'), 'pg_proc') like ours then
    routines := routines || ', public.update_prospect_data(text, jsonb)';
  end if;
  execute format('revoke execute on function %s from public', routines);
  execute format('grant execute on function %s to nexus_sink', routines);
  for role_name in select rolname from pg_catalog.pg_roles where rolname in ('anon', 'authenticated') loop
    execute format('revoke all on %s from %I', tables, role_name);
    execute format('revoke execute on function %s from %I', routines, role_name);
  end loop;
  if exists (select from pg_catalog.pg_roles where rolname = 'service_role') then
    execute format('grant select, insert, update, delete on %s to service_role', tables);
    execute format('grant execute on function %s to service_role', routines);
  end if;
end
$$;
