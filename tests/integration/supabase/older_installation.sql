-- An installation as the site had it before: its table, its rows, its function. What it does is its own business.
create table public.prospect_tracking (
  id uuid primary key default gen_random_uuid(),
  fingerprint_id text unique,
  prospect_data jsonb,
  constructor_id uuid,
  created_at timestamptz default now(),
  updated_at timestamptz default now()
);
comment on table public.prospect_tracking is 'Prospects of the site.';
comment on column public.prospect_tracking.prospect_data is 'What we know.';
create index their_index on public.prospect_tracking (updated_at);
grant select on public.prospect_tracking to public;

insert into public.prospect_tracking (fingerprint_id, prospect_data) values
  ('fp', '{"nombre": "Ana Ruiz", "nivel_interes": 7.5, "crm": 7}'), ('quiet', '{"nombre": "Eva"}'), ('null', null);

-- Every call, in order: what a test counts.
create table public.their_calls (number serial, fingerprint_id text, data jsonb, constructor_id uuid);

-- A merge of its own, which reports what it does not like and what went wrong without raising it.
create function public.update_prospect_data(p_fingerprint_id text, p_data jsonb, p_constructor_id uuid default null)
returns jsonb
language plpgsql
as $$
begin
  insert into public.their_calls (fingerprint_id, data, constructor_id)
  values (p_fingerprint_id, p_data, p_constructor_id);
  if p_data ->> 'nombre' = 'Mallory' then
    return jsonb_build_object('success', false, 'error', 'we do not like ' || (p_data ->> 'nombre'));
  end if;
  insert into public.prospect_tracking as t (fingerprint_id, prospect_data, constructor_id)
  values (p_fingerprint_id, p_data, p_constructor_id)
  on conflict (fingerprint_id) do update
  set prospect_data = coalesce(t.prospect_data, '{}') || excluded.prospect_data, updated_at = now();
  return jsonb_build_object('success', true, 'fingerprint_id', p_fingerprint_id);
exception
  when others then
    return jsonb_build_object('success', false, 'error', sqlerrm);
end
$$;
