-- Remove what the migrations of nexus-stream made, of this checkout or an earlier one. docs/howto/upgrade.md and
-- docs/howto/migrate.md say when:
--   psql "$SUPABASE_DB_URL" --set=ON_ERROR_STOP=1 --file=supabase/remove.sql
--
-- prospect_tracking keeps its rows, its columns and its indexes. The roles stay too: they belong to the whole server.
begin;

drop table if exists public.prospect_sessions, public.prospect_contributions, public.prospect_suppressions,
  public.privacy_audit;
drop policy if exists nexus_sink_all on public.prospect_tracking;
drop policy if exists nexus_privacy_read on public.prospect_tracking;

-- By name, because an installation may have functions of its own that begin with nexus_.
do $$
declare
  made constant text[] := array['nexus_better_name', 'nexus_called_tenant', 'nexus_can_fold', 'nexus_contribute',
    'nexus_contribute_unguarded', 'nexus_erase_people', 'nexus_erase_session', 'nexus_expire_session',
    'nexus_facts_about', 'nexus_fold', 'nexus_forget_people', 'nexus_forget_suppressed', 'nexus_has_own_function',
    'nexus_is_called', 'nexus_keep_erasures_away', 'nexus_level', 'nexus_lift', 'nexus_lock_person', 'nexus_lock_sinks',
    'nexus_merge', 'nexus_name_words', 'nexus_no_name', 'nexus_other_keys', 'nexus_refresh_people',
    'nexus_refresh_people_unguarded', 'nexus_rows_of', 'nexus_standard_keys', 'nexus_subject_hash', 'nexus_text',
    'nexus_valid_email', 'nexus_valid_phone'];
  signature regprocedure;
begin
  for signature in
    select p.oid from pg_catalog.pg_proc p
    where p.pronamespace = 'public'::regnamespace and (
      p.proname = any (made)
      or p.proname = 'update_prospect_data' and obj_description(p.oid, 'pg_proc') like '%Made by nexus-stream.'
    )
  loop
    execute format('drop function %s', signature);
  end loop;
end
$$;

delete from supabase_migrations.schema_migrations
where name like 'nexus\_stream\_%' or (version, name) in (
  ('20261124000100', 'prospect_tables'), ('20261124000200', 'prospect_fold'), ('20261124000300', 'prospect_writers'),
  ('20261124000400', 'prospect_roles'), ('20261124000500', 'privacy'), ('20261124000600', 'corrections')
);

commit;
