-- The merge heeds whether a signal is confirmed: whether our own rules know the words that a model gives as evidence.
-- No record of an earlier version has an unconfirmed signal, so no row changes and none is folded again here.

-- The merge. The arguments: records and calls in the order of time, which of them are records, and the sessions' ids in
-- that order.
--
--   null and '' never erase anything;
--   nombre: see nexus_better_name; email, telefono: an invalid value never replaces a valid one;
--   an explicit correction (signal correccion_nombre, _email, _telefono) always replaces;
--   objeciones unite, in the order of their first mention; ocupacion, arquetipo and unknown keys: the newest wins, but an
--   unconfirmed arquetipo never replaces a confirmed one;
--   a signal with confirmed = false moves nothing by itself;
--   nivel_interes is the sum of the merged facts, within 0 to 10: name 2, phone 3, e-mail 1.5, intencion 2, desinteres -3;
--   momento_optimo follows from nivel_interes: caliente from 7, tibio from 4, else frio.
-- A call may bring its own nivel_interes: a judgement about everything known so far. The judgement replaces the
-- computed level, and only later facts move the level on. The merge does not read a call's momento_optimo.
create or replace function public.nexus_merge(p_data jsonb[], p_is_session boolean[], p_session_ids text[]) returns jsonb
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
  is_arquetipo_confirmed boolean := false;
  is_confirmed boolean := true;
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
    is_confirmed := true;
    if signals @> '[{"confirmed": false}]' then
      is_confirmed := not signals @> '[{"name": "arquetipo", "confirmed": false}]';
      select coalesce(jsonb_agg(each.signal), '[]') into signals
        from jsonb_array_elements(signals) as each(signal) where not each.signal @> '{"confirmed": false}';
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
    value := public.nexus_text(facts -> 'arquetipo');
    if value is not null and (is_confirmed or not is_arquetipo_confirmed) then
      arquetipo := value;
      is_arquetipo_confirmed := is_confirmed;
    end if;

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
