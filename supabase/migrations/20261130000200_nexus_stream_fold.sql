-- The fold: the merge rules, once. nexus_merge makes a person's prospect_data from all facts about the person, in the
-- order of time. Every fold starts from nothing and merges into no former result. So the order, the repetition and the
-- batches of deliveries cannot matter.
--
-- nexus_refresh_people calls the fold, for the sink and for update_prospect_data.

-- The keys of prospect_data that the fold owns. The fold keeps every other key as it is.
create function public.nexus_standard_keys() returns text[]
language sql immutable parallel safe
as $$
  select array['nombre', 'email', 'telefono', 'ocupacion', 'nivel_interes', 'objeciones', 'arquetipo', 'momento_optimo',
    'sessions', 'last_session_id', 'signals']
$$;

-- The keys of a fold beyond the standard ones. A function of its own, because PostgreSQL does not inline this query:
-- `case` can skip the call, and such keys are rare.
create function public.nexus_other_keys(p_data jsonb) returns text[]
language sql immutable parallel safe
as $$
  select array(select k from jsonb_object_keys(p_data - public.nexus_standard_keys()) k order by k collate "C")
$$;

-- A JSON string without white space around it. White space is Unicode's, and characters without width. Null for an
-- empty string and for any other type.
create function public.nexus_text(p_value jsonb) returns text
language sql immutable parallel safe
as $$
  select case when jsonb_typeof(p_value) = 'string' then nullif(btrim(p_value #>> '{}',
    E' \t\n\u000b\f\r\u0085\u00a0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a\u200b\u200c\u200d'
    '\u2028\u2029\u202f\u205f\u2060\u3000\ufeff'), '') end
$$;

-- A name's words, in lower case and without accents: "maria" and "María" are the same word.
create function public.nexus_name_words(p_name text) returns text[]
language sql immutable parallel safe
as $$
  select regexp_split_to_array(
    lower(translate(p_name, 'ÁÀÄÂÃÉÈËÊÍÌÏÎÓÒÖÔÕÚÙÜÛÑÇáàäâãéèëêíìïîóòöôõúùüûñç',
      'AAAAAEEEEIIIIOOOOOUUUUNCaaaaaeeeeiiiiooooouuuunc')), '\s+')
$$;

-- Whether these words (nexus_name_words) are no name: initials alone, or a word that an earlier extractor took for a
-- name.
create function public.nexus_no_name(p_words text[]) returns boolean
language sql immutable parallel safe
as $$
  select array_to_string(p_words, ' ') = any (array['yo', 'acepto', 'visionario', 'visionaria', 'el pequeno',
      'la pequena', 'si', 'no', 'ok', 'hola', 'gracias', 'usuario', 'asistente', 'nombre'])
    or not exists (select from unnest(p_words) w where length(rtrim(w, '.,')) > 1)
$$;

-- The better of a known name and a newer name. A newer name that says the same or less never wins: known words, their
-- initials or beginnings, one name instead of name and surname, or no name at all. Any other newer name wins.
create function public.nexus_better_name(p_known text, p_new text) returns text
language plpgsql immutable parallel safe
set search_path = ''
as $$
declare
  -- The count of a name's words leaves out these words and initials.
  particles constant text[] :=
    array['de', 'del', 'la', 'las', 'los', 'da', 'do', 'dos', 'di', 'von', 'van', 'der', 'y'];
  known_words text[] := public.nexus_name_words(p_known);
  new_words text[] := public.nexus_name_words(p_new);
begin
  if new_words <@ known_words then
    -- The same words: keep the known spelling. But a spelling all in lower case gives way to one that is not.
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

-- The sum of interest of the facts. The caller holds it within 0 to 10.
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

-- All facts about a person: the person's sessions, the calls to the person, and the calls to the person's sessions
-- before those had a fingerprint. Plain SQL without settings, so that PostgreSQL inlines this function into the fold of
-- many people.
--
-- Of more than 2,000 sessions only the first count. No person has so many, but anybody can open sessions in a person's
-- name. With this bound, such a flood cannot slow down every fold without end, and cannot push out the facts before it.
-- All calls count: nexus_contribute takes no more than 2,000.
create function public.nexus_facts_about(p_tenant_id text, p_person_key text)
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
    -- Not a call to a session that has a fingerprint by now: the next part counts that call.
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

-- The merge. The arguments: records and calls in the order of time, which of them are records, and the sessions' ids in
-- that order.
--
--   null and '' never erase anything;
--   nombre: see nexus_better_name; email, telefono: an invalid value never replaces a valid one;
--   an explicit correction (signal correccion_nombre, _email, _telefono) always replaces;
--   objeciones unite, in the order of their first mention; ocupacion, arquetipo and unknown keys: the newest wins;
--   nivel_interes is the sum of the merged facts, within 0 to 10: name 2, phone 3, e-mail 1.5, intencion 2, desinteres -3;
--   momento_optimo follows from nivel_interes: caliente from 7, tibio from 4, else frio.
-- A call may bring its own nivel_interes: a judgement about everything known so far. The judgement replaces the
-- computed level, and only later facts move the level on. The merge does not read a call's momento_optimo.
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
      -- By index, because a query over the elements costs more than the rest of the merge.
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
      -- A number, or a number written as text. Its length is bounded, so that no value can make the fold fail.
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

-- One person's prospect_data. Null when no fact about the person is left. The order is (time, sessions before calls,
-- id). The function returns a set of one row, so that PostgreSQL inlines it.
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
  ) f
$$;
