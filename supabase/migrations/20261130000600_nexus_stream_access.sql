-- Who may do what.
--
-- nexus_sink     Writes and folds prospects, and nothing else. The sink's login is a member:
--                create role my_sink login password '…' in role nexus_sink;
-- nexus_privacy  Exports and erases people. An operator's login is a member:
--                create role my_officer login password '…' in role nexus_privacy;
--
-- Browsers (anon, authenticated) get nothing. Supabase's roles are named only where they exist.

-- Roles belong to the whole server: another database's migration may make them at the same moment.
do $$
begin
  if not exists (select from pg_catalog.pg_roles where rolname = 'nexus_sink') then
    create role nexus_sink nologin;
  end if;
exception
  when duplicate_object or unique_violation then null;
end
$$;
do $$
begin
  if not exists (select from pg_catalog.pg_roles where rolname = 'nexus_privacy') then
    create role nexus_privacy nologin;
  end if;
exception
  when duplicate_object or unique_violation then null;
end
$$;

alter table public.prospect_sessions enable row level security;
alter table public.prospect_contributions enable row level security;
alter table public.prospect_suppressions enable row level security;
alter table public.privacy_audit enable row level security;

create policy nexus_sink_all on public.prospect_tracking for all to nexus_sink using (true) with check (true);
create policy nexus_sink_all on public.prospect_sessions for all to nexus_sink using (true) with check (true);
create policy nexus_sink_all on public.prospect_contributions for all to nexus_sink using (true) with check (true);
create policy nexus_sink_read on public.prospect_suppressions for select to nexus_sink using (true);
create policy nexus_privacy_read on public.prospect_tracking for select to nexus_privacy using (true);
create policy nexus_privacy_read on public.prospect_sessions for select to nexus_privacy using (true);
create policy nexus_privacy_read on public.prospect_contributions for select to nexus_privacy using (true);
create policy nexus_privacy_read on public.prospect_suppressions for select to nexus_privacy using (true);
create policy nexus_privacy_all on public.privacy_audit for all to nexus_privacy using (true) with check (true);

grant usage on schema public to nexus_sink, nexus_privacy;
grant select, insert, update, delete on public.prospect_tracking to nexus_sink;
grant select, insert, update on public.prospect_sessions, public.prospect_contributions to nexus_sink;
grant select on public.prospect_suppressions to nexus_sink;
grant select on public.prospect_tracking, public.prospect_sessions, public.prospect_contributions to nexus_privacy;
grant select on public.prospect_suppressions to nexus_privacy;
grant select, insert, update on public.privacy_audit to nexus_privacy;

-- PostgreSQL opens a function to everybody, and Supabase opens everything in public to its roles: both are taken back
-- here. A prospect_tracking or update_prospect_data that was here before keeps its access, because its users rely on
-- it.
do $$
declare
  ours constant text := '%Made by nexus-stream.';
  -- service_role may read and write these.
  tables text := 'public.prospect_sessions, public.prospect_contributions';
  private_tables constant text := 'public.prospect_suppressions, public.privacy_audit';
  -- For nexus_sink and service_role.
  writers text := 'public.nexus_standard_keys(), public.nexus_other_keys(jsonb), public.nexus_text(jsonb), '
    'public.nexus_name_words(text), public.nexus_no_name(text[]), public.nexus_better_name(text, text), '
    'public.nexus_valid_email(text), public.nexus_valid_phone(text), '
    'public.nexus_level(text, text, text, boolean, boolean), public.nexus_facts_about(text, text), '
    'public.nexus_merge(jsonb[], boolean[], text[]), public.nexus_fold(text, text), '
    'public.nexus_keep_erasures_away(), public.nexus_refresh_people_unguarded(text[], text[])';
  -- For nexus_sink, nexus_privacy and service_role.
  everybodys constant text := 'public.nexus_subject_hash(text, text, text), '
    'public.nexus_forget_suppressed(text[], text[]), public.nexus_refresh_people(text[], text[]), '
    'public.nexus_contribute(text, text, jsonb)';
  -- For nexus_sink.
  sinks constant text := 'public.nexus_erase_session(text, text, text[], text, timestamptz), '
    'public.nexus_expire_session(text, text, bigint)';
  -- For nexus_privacy.
  officers constant text := 'public.nexus_erase_people(text, text[], text), '
    'public.nexus_lift(text, text[], timestamptz), public.nexus_rows_of(text)';
  -- For the functions above, which run with their owner's rights.
  inner_ones constant text := 'public.nexus_has_own_function(), public.nexus_can_fold(), '
    'public.nexus_is_called(text, text), public.nexus_called_tenant(text, text), public.nexus_lock_sinks(), '
    'public.nexus_lock_person(text, text), public.nexus_forget_people(text, text[], boolean)';
  role_name text;
begin
  if obj_description('public.prospect_tracking'::regclass, 'pg_class') like ours then
    alter table public.prospect_tracking enable row level security;
    tables := tables || ', public.prospect_tracking';
  end if;
  if obj_description(to_regprocedure('public.update_prospect_data(text, jsonb)'), 'pg_proc') like ours then
    writers := writers || ', public.update_prospect_data(text, jsonb)';
  end if;
  execute format(
    'revoke execute on function %s, %s, %s, %s, %s from public', writers, everybodys, sinks, officers, inner_ones
  );
  execute format('grant execute on function %s, %s, %s to nexus_sink', writers, everybodys, sinks);
  execute format('grant execute on function %s, %s to nexus_privacy', everybodys, officers);
  for role_name in select rolname from pg_catalog.pg_roles where rolname in ('anon', 'authenticated') loop
    execute format('revoke all on %s, %s from %I', tables, private_tables, role_name);
    execute format(
      'revoke execute on function %s, %s, %s, %s, %s from %I',
      writers, everybodys, sinks, officers, inner_ones, role_name
    );
  end loop;
  if exists (select from pg_catalog.pg_roles where rolname = 'service_role') then
    execute format('grant select, insert, update, delete on %s to service_role', tables);
    execute format('grant execute on function %s, %s to service_role', writers, everybodys);
    execute format('revoke all on %s from service_role', private_tables);
    execute 'grant select on public.prospect_suppressions to service_role';
    execute format('revoke execute on function %s, %s, %s from service_role', sinks, officers, inner_ones);
  end if;
end
$$;
