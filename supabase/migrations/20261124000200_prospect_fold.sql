-- The merge rules, once: nexus_merge makes a person's prospect_data from all that is known about them, in time order.
-- The sink and update_prospect_data both come here through nexus_refresh_people. Arrival order, repetition and batching
-- of deliveries cannot matter, because nothing is merged into a former result: every fold starts from nothing.

-- The keys of prospect_data that the fold owns. Every other key is kept as it is.
create function public.nexus_standard_keys() returns text[]
language sql immutable parallel safe
as $$
  select array['nombre', 'email', 'telefono', 'ocupacion', 'nivel_interes', 'objeciones', 'arquetipo', 'momento_optimo',
    'sessions', 'last_session_id', 'signals']
$$;

-- Which keys of a fold those are not. A name for `case` to skip: such keys are rare, and this is not inlined.
create function public.nexus_other_keys(p_data jsonb) returns text[]
language sql immutable parallel safe
as $$
  select array(select k from jsonb_object_keys(p_data - public.nexus_standard_keys()) k order by k collate "C")
$$;

-- A JSON string without surrounding white space; null for anything empty and for what is no string.
create function public.nexus_text(p_value jsonb) returns text
language sql immutable parallel safe
as $$
  select case when jsonb_typeof(p_value) = 'string' then nullif(btrim(p_value #>> '{}', E' \t\r\n'), '') end
$$;

-- A name's words, lower case and without accents, so that "maria" and "María" are one word.
create function public.nexus_name_words(p_name text) returns text[]
language sql immutable parallel safe
as $$
  select regexp_split_to_array(
    lower(translate(p_name, 'ÁÀÄÂÃÉÈËÊÍÌÏÎÓÒÖÔÕÚÙÜÛÑÇáàäâãéèëêíìïîóòöôõúùüûñç',
      'AAAAAEEEEIIIIOOOOOUUUUNCaaaaaeeeeiiiiooooouuuunc')), '\s+')
$$;

-- The better of a known name and a newer one: one that says the same or less never wins, anything else is newer news.
create function public.nexus_better_name(p_known text, p_new text) returns text
language plpgsql immutable parallel safe
set search_path = ''
as $$
declare
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
  return p_new;
end
$$;

create function public.nexus_valid_email(p_email text) returns boolean
language sql immutable parallel safe
as $$
  select p_email ~ '^[^[:space:]@,;:<>()"]+@([A-Za-z0-9]([A-Za-z0-9-]*[A-Za-z0-9])?[.])+[A-Za-z]{2,63}$'
$$;

create function public.nexus_valid_phone(p_phone text) returns boolean
language sql immutable parallel safe
as $$
  select p_phone ~ '^[+][1-9][0-9]{6,14}$'
$$;

-- The interest that facts add up to, before it is held within 0 to 10.
create function public.nexus_level(
  p_nombre text, p_email text, p_telefono text, p_intencion boolean, p_desinteres boolean
) returns numeric
language sql immutable parallel safe
as $$
  select case when p_nombre is null then 0 else 2 end
    + case when public.nexus_valid_phone(p_telefono) then 3 else 0 end
    + case when public.nexus_valid_email(p_email) then 1.5 else 0 end
    + case when p_intencion then 2 else 0 end
    - case when p_desinteres then 3 else 0 end
$$;

-- All that is known about a person: their sessions, calls made to them, and calls made to their sessions before those had
-- a fingerprint. Plain SQL without settings, so that it is inlined into the fold of many people.
create function public.nexus_facts_about(p_tenant_id text, p_person_key text)
returns table (at_us bigint, session_id text, id text, data jsonb)
language sql stable
as $$
  select s.snapshot_at_ms * 1000, s.session_id, s.session_id, s.record
  from public.prospect_sessions s
  where s.tenant_id = p_tenant_id and s.person_key = p_person_key and s.erased_at is null
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

-- The merge. Takes records and calls in time order, which of them are records, and the sessions' ids in that order.
--
--   null and '' never erase anything;
--   nombre: see nexus_better_name; email, telefono: a valid value is never replaced by an invalid one;
--   an explicit correction (signal correccion_nombre, _email, _telefono) always replaces;
--   objeciones unite, in the order they first came up; ocupacion, arquetipo and unknown keys: the newest wins;
--   nivel_interes is computed from the merged facts: name 2, phone 3, e-mail 1.5, intencion 2, desinteres -3, within 0 to 10;
--   momento_optimo follows from it: caliente from 7, tibio from 4, else frio.
-- A call may bring a nivel_interes of its own, a judgement with everything known so far in view. It replaces the computed
-- level, and only facts that are learned after it move the level on. A call's momento_optimo is not read.
create function public.nexus_merge(p_data jsonb[], p_is_session boolean[], p_session_ids text[]) returns jsonb
language plpgsql immutable parallel safe
set search_path = ''
as $$
declare
  data jsonb;
  place integer := 0;
  facts jsonb;
  signals jsonb;
  value text;
  pair record;
  nombre text;
  email text;
  telefono text;
  ocupacion text;
  arquetipo text;
  objeciones text[] := '{}';
  extra jsonb := '{}';
  intencion boolean := false;
  desinteres boolean := false;
  judged numeric;
  computed_when_judged numeric := 0;
  nivel numeric;
begin
  if p_data is null then
    return null;
  end if;
  foreach data in array p_data loop
    place := place + 1;
    if p_is_session[place] then
      facts := data -> 'prospect';
      signals := data -> 'extraction' -> 'signals';
    else
      facts := data;
      signals := data -> 'signals';
    end if;
    if jsonb_typeof(signals) is distinct from 'array' then
      signals := '[]';
    end if;

    value := public.nexus_text(facts -> 'nombre');
    if value is not null and value is distinct from nombre then
      if nombre is null or signals @> '[{"name": "correccion_nombre"}]' or signals ? 'correccion_nombre' then
        nombre := value;
      else
        nombre := public.nexus_better_name(nombre, value);
      end if;
    end if;

    value := lower(public.nexus_text(facts -> 'email'));
    if value is not null and value is distinct from email and (
      email is null or public.nexus_valid_email(value) or not public.nexus_valid_email(email)
      or signals @> '[{"name": "correccion_email"}]' or signals ? 'correccion_email'
    ) then
      email := value;
    end if;

    value := public.nexus_text(facts -> 'telefono');
    if value is not null and value is distinct from telefono and (
      telefono is null or public.nexus_valid_phone(value) or not public.nexus_valid_phone(telefono)
      or signals @> '[{"name": "correccion_telefono"}]' or signals ? 'correccion_telefono'
    ) then
      telefono := value;
    end if;

    ocupacion := coalesce(public.nexus_text(facts -> 'ocupacion'), ocupacion);
    arquetipo := coalesce(public.nexus_text(facts -> 'arquetipo'), arquetipo);

    if jsonb_typeof(facts -> 'objeciones') = 'array' then
      -- By index: a query over the elements costs more than all the rest.
      for n in 0 .. jsonb_array_length(facts -> 'objeciones') - 1 loop
        value := lower(public.nexus_text(facts -> 'objeciones' -> n));
        value := case value
          when 'precio' then 'price' when 'tiempo' then 'time' when 'confianza' then 'trust' else value
        end;
        if value is not null and not value = any (objeciones) then
          objeciones := objeciones || value;
        end if;
      end loop;
    end if;

    intencion := intencion or signals @> '[{"name": "intencion"}]' or signals ? 'intencion';
    desinteres := desinteres or signals @> '[{"name": "desinteres"}]' or signals ? 'desinteres';
    if not p_is_session[place] then
      value := facts ->> 'nivel_interes';
      -- A number, also one written as text; bounded, so that no value can make the fold fail.
      if value ~ '^-?[0-9]{1,30}([.][0-9]{1,30})?$' then
        judged := least(greatest(value::numeric, 0), 10);
        computed_when_judged := public.nexus_level(nombre, email, telefono, intencion, desinteres);
      end if;
      for pair in select p.key, p.value from jsonb_each(facts - public.nexus_standard_keys()) p loop
        if pair.value <> 'null'::jsonb and (
          jsonb_typeof(pair.value) <> 'string' or public.nexus_text(pair.value) is not null
        ) then
          extra := extra || jsonb_build_object(pair.key, pair.value);
        end if;
      end loop;
    end if;
  end loop;

  nivel := public.nexus_level(nombre, email, telefono, intencion, desinteres);
  nivel := trim_scale(least(greatest(coalesce(judged - computed_when_judged, 0) + nivel, 0), 10));
  return extra || jsonb_build_object(
    'nombre', nombre,
    'email', email,
    'telefono', telefono,
    'ocupacion', ocupacion,
    'nivel_interes', nivel,
    'objeciones', to_jsonb(objeciones),
    'arquetipo', arquetipo,
    'momento_optimo', case when nivel >= 7 then 'caliente' when nivel >= 4 then 'tibio' else 'frio' end,
    'sessions', coalesce(cardinality(p_session_ids), 0),
    'last_session_id', p_session_ids[cardinality(p_session_ids)]
  );
end
$$;

-- One person's prospect_data: null when nothing is known about them (any more). In the order of (snapshot time, sessions
-- before calls, id). One row; a set for the sake of inlining.
--
-- Of more than 2,000 only the first count. No person has so many, but anybody can open sessions in a person's name: so they
-- can neither make every fold slower without end, nor push out what was known before.
create function public.nexus_fold(p_tenant_id text, p_person_key text) returns setof jsonb
language sql stable
as $$
  select public.nexus_merge(
    array_agg(f.data), array_agg(f.session_id is not null),
    array_agg(f.session_id) filter (where f.session_id is not null)
  )
  from (
    select a.session_id, a.data from public.nexus_facts_about(p_tenant_id, p_person_key) a
    order by a.at_us, a.session_id is null, a.id collate "C"
    limit 2000
  ) f
$$;
