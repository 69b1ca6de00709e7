-- The merge rules, once: nexus_fold makes a person's prospect_data from all that is known about them, in time order.
-- The sink and update_prospect_data both come here through nexus_refresh_people. Arrival order, repetition and batching
-- of deliveries cannot matter, because nothing is merged into a former result: every fold starts from nothing.

-- The keys of prospect_data that the fold owns. Every other key is kept as it is.
create function public.nexus_standard_keys() returns text[]
language sql immutable parallel safe
as $$
  select array['nombre', 'email', 'telefono', 'ocupacion', 'nivel_interes', 'objeciones', 'arquetipo', 'momento_optimo',
    'sessions', 'last_session_id', 'signals']
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

-- One person's prospect_data: null when nothing is known about them (any more).
--
-- In the order of (snapshot time, sessions before calls, id):
--   null and '' never erase anything;
--   nombre: see nexus_better_name; email, telefono: a valid value is never replaced by an invalid one;
--   an explicit correction (signal correccion_nombre, _email, _telefono) always replaces;
--   objeciones unite, in the order they first came up; ocupacion, arquetipo and unknown keys: the newest wins;
--   nivel_interes is computed from the merged facts: name 2, phone 3, e-mail 1.5, intencion 2, desinteres -3, within 0 to 10;
--   momento_optimo follows from it: caliente from 7, tibio from 4, else frio.
-- A call may bring a nivel_interes of its own, a judgement with everything known so far in view. It replaces the computed
-- level, and only facts that are learned after it move the level on. A call's momento_optimo is not read.
create function public.nexus_fold(p_tenant_id text, p_person_key text) returns jsonb
language plpgsql stable
set search_path = ''
as $$
declare
  contribution record;
  facts jsonb;
  signals jsonb;
  value text;
  item jsonb;
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
  computed numeric := 0;
  judged numeric;
  computed_when_judged numeric := 0;
  nivel numeric;
  session_count integer := 0;
  last_session_id text;
  found_any boolean := false;
begin
  for contribution in
    select s.snapshot_at_ms * 1000 as at_us, true as is_session, s.session_id collate "C" as id, s.record as data
    from public.prospect_sessions s
    where s.tenant_id = p_tenant_id and s.person_key = p_person_key and s.erased_at is null
    union all
    select (extract(epoch from c.contributed_at) * 1000000)::bigint, false, c.contribution_id collate "C", c.data
    from public.prospect_contributions c
    where c.tenant_id = p_tenant_id and c.fingerprint_id = p_person_key
      -- Made to a session without fingerprint that has one by now: it counts there, below.
      and not exists (
        select from public.prospect_sessions s
        where c.fingerprint_id like 'session:%' and s.tenant_id = c.tenant_id
          and s.session_id = substr(c.fingerprint_id, 9) and s.fingerprint is not null
      )
    union all
    select (extract(epoch from c.contributed_at) * 1000000)::bigint, false, c.contribution_id collate "C", c.data
    from public.prospect_sessions s
    join public.prospect_contributions c
      on c.tenant_id = s.tenant_id and c.fingerprint_id = 'session:' || s.session_id
    where s.tenant_id = p_tenant_id and s.person_key = p_person_key and s.fingerprint is not null
      and s.erased_at is null
    order by 1, 2 desc, 3
  loop
    found_any := true;
    if contribution.is_session then
      facts := contribution.data -> 'prospect';
      signals := contribution.data -> 'extraction' -> 'signals';
      session_count := session_count + 1;
      last_session_id := contribution.id;
    else
      facts := contribution.data;
      signals := contribution.data -> 'signals';
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
      for item in select jsonb_array_elements(facts -> 'objeciones') loop
        value := lower(public.nexus_text(item));
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
    computed := case when nombre is null then 0 else 2 end
      + case when public.nexus_valid_phone(telefono) then 3 else 0 end
      + case when public.nexus_valid_email(email) then 1.5 else 0 end
      + case when intencion then 2 else 0 end
      - case when desinteres then 3 else 0 end;

    if not contribution.is_session then
      value := facts ->> 'nivel_interes';
      -- A number, also one written as text; bounded, so that no value can make the fold fail.
      if value ~ '^-?[0-9]{1,30}([.][0-9]{1,30})?$' then
        judged := least(greatest(value::numeric, 0), 10);
        computed_when_judged := computed;
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

  if not found_any then
    return null;
  end if;
  nivel := trim_scale(least(greatest(coalesce(judged - computed_when_judged, 0) + computed, 0), 10));
  return extra || jsonb_build_object(
    'nombre', nombre,
    'email', email,
    'telefono', telefono,
    'ocupacion', ocupacion,
    'nivel_interes', nivel,
    'objeciones', to_jsonb(objeciones),
    'arquetipo', arquetipo,
    'momento_optimo', case when nivel >= 7 then 'caliente' when nivel >= 4 then 'tibio' else 'frio' end,
    'sessions', session_count,
    'last_session_id', last_session_id
  );
end
$$;
