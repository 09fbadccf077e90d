-- The queue in Postgres. PREFIX is replaced. Times are of the server's clock, durations are microseconds.
create sequence if not exists PREFIX_ids;
create sequence if not exists PREFIX_tokens;
create table if not exists PREFIX_topics (
  id serial primary key, name bytea not null unique,
  dedup_window bigint not null, hold boolean not null);
create table if not exists PREFIX_groups (
  id serial primary key, topic int not null references PREFIX_topics, name bytea not null,
  lease bigint not null, deliveries_max bigint not null, in_flight_max bigint not null,
  ordered boolean not null, durable boolean not null, dead int not null references PREFIX_topics,
  unique (topic, name));
-- `pending`: groups that have not settled it.
create table if not exists PREFIX_messages (
  id bigint primary key, topic int not null, pending int not null, priority smallint not null,
  not_before timestamptz not null, key bytea, dedup bytea, names bytea[] not null, vals bytea[] not null,
  body bytea not null);
create index if not exists PREFIX_messages_topic on PREFIX_messages (topic);
-- Ready; leased (not ready, with a token) until `due`; or delayed (not ready, no token) until `due`.
create table if not exists PREFIX_deliveries (
  grp int not null, message bigint not null, ready boolean not null, due timestamptz not null,
  attempts int not null, token bigint not null, priority smallint not null, key bytea,
  primary key (grp, message));
create index if not exists PREFIX_ready on PREFIX_deliveries (grp, priority desc, message) where ready;
create index if not exists PREFIX_due on PREFIX_deliveries (grp, due) where not ready;
create index if not exists PREFIX_leased on PREFIX_deliveries (grp) where token <> 0;
create index if not exists PREFIX_keys on PREFIX_deliveries (grp, key, message) where key is not null;
create table if not exists PREFIX_dedup (
  topic int not null, dedup bytea not null, message bigint not null, until timestamptz not null,
  primary key (topic, dedup));
create index if not exists PREFIX_dedup_until on PREFIX_dedup (until);

create or replace function PREFIX_us(us bigint) returns interval language sql immutable as
$$ select make_interval(secs => us / 1000000.0) $$;

create or replace function PREFIX_topic(p_name bytea, p_window bigint, p_hold boolean)
returns int language plpgsql as $$
declare found_id int;
begin
  select id into found_id from PREFIX_topics where name = p_name;
  if found_id is null then
    insert into PREFIX_topics (name, dedup_window, hold) values (p_name, p_window, p_hold)
      on conflict (name) do nothing;
    select id into found_id from PREFIX_topics where name = p_name;
  end if;
  return found_id;
end $$;

create or replace function PREFIX_group(
  p_topic int, p_name bytea, p_lease bigint, p_deliveries_max bigint, p_in_flight_max bigint,
  p_ordered boolean, p_durable boolean, p_dead bytea, p_end boolean)
returns int language plpgsql as $$
declare found_id int;
begin
  -- No publish is in between.
  perform 1 from PREFIX_topics where id = p_topic for update;
  select id into found_id from PREFIX_groups where topic = p_topic and name = p_name;
  if found_id is not null then return found_id; end if;
  insert into PREFIX_groups (topic, name, lease, deliveries_max, in_flight_max, ordered, durable, dead)
    values (p_topic, p_name, p_lease, p_deliveries_max, p_in_flight_max, p_ordered, p_durable,
      PREFIX_topic(p_dead, 600000000, true))
    returning id into found_id;
  if not p_end then
    insert into PREFIX_deliveries
      select found_id, m.id, m.not_before <= clock_timestamp(), m.not_before, 0, 0, m.priority, m.key
      from PREFIX_messages m where m.topic = p_topic;
    update PREFIX_messages set pending = pending + 1 where topic = p_topic;
  end if;
  delete from PREFIX_messages where topic = p_topic and pending = 0;
  return found_id;
end $$;

-- `p_counts`: headers of each message, whose names and values follow one another in `p_names` and `p_vals`.
-- `p_delays` from now, `p_ats` since 1970; null is none.
create or replace function PREFIX_publish(
  p_topic int, p_bodies bytea[], p_keys bytea[], p_dedups bytea[], p_priorities smallint[],
  p_delays bigint[], p_ats bigint[], p_counts int[], p_names bytea[], p_vals bytea[])
returns table (id bigint, duplicate boolean) language plpgsql as $$
declare
  t PREFIX_topics; groups_count int; h int := 0; due timestamptz; at timestamptz := clock_timestamp();
  stored boolean := false;
begin
  select * into t from PREFIX_topics where PREFIX_topics.id = p_topic for key share;
  select count(*) into groups_count from PREFIX_groups g where g.topic = p_topic;
  delete from PREFIX_dedup d where d.ctid = any (array(
    select e.ctid from PREFIX_dedup e where e.until <= at order by e.until limit 20 for update skip locked));
  for i in 1 .. coalesce(array_length(p_bodies, 1), 0) loop
    id := nextval('PREFIX_ids');
    duplicate := false;
    if p_dedups[i] is not null then
      insert into PREFIX_dedup as d values (p_topic, p_dedups[i], id, at + PREFIX_us(t.dedup_window))
        on conflict (topic, dedup) do update set message = excluded.message, until = excluded.until
          where d.until <= at;
      if not found then
        select d.message into id from PREFIX_dedup d where d.topic = p_topic and d.dedup = p_dedups[i];
        duplicate := true;
      end if;
    end if;
    if not duplicate and (groups_count > 0 or t.hold) then
      due := case
        when p_delays[i] is not null then at + PREFIX_us(p_delays[i])
        when p_ats[i] is not null then 'epoch'::timestamptz + PREFIX_us(p_ats[i])
        else at end;
      insert into PREFIX_messages values (id, p_topic, groups_count, p_priorities[i], due, p_keys[i], p_dedups[i],
        p_names[h + 1 : h + p_counts[i]], p_vals[h + 1 : h + p_counts[i]], p_bodies[i]);
      insert into PREFIX_deliveries
        select g.id, PREFIX_publish.id, due <= at, due, 0, 0, p_priorities[i], p_keys[i]
        from PREFIX_groups g where g.topic = p_topic;
      stored := true;
    end if;
    h := h + p_counts[i];
    return next;
  end loop;
  if stored then perform pg_notify('PREFIX', p_topic::text); end if;
end $$;

create or replace function PREFIX_done(p_group int, p_message bigint) returns void language plpgsql as $$
declare still int;
begin
  delete from PREFIX_deliveries where grp = p_group and message = p_message;
  update PREFIX_messages set pending = pending - 1 where id = p_message returning pending into still;
  if still <= 0 then delete from PREFIX_messages where id = p_message; end if;
end $$;

create or replace function PREFIX_bury(p_group int, p_message bigint, p_attempts int, p_reason text)
returns void language plpgsql as $$
declare g PREFIX_groups; m PREFIX_messages; topic_name bytea; names bytea[];
begin
  select * into g from PREFIX_groups where id = p_group;
  select * into m from PREFIX_messages where id = p_message;
  select name into topic_name from PREFIX_topics where id = g.topic;
  names := m.names || array['mq-dead-reason', 'mq-dead-topic', 'mq-dead-group', 'mq-dead-id', 'mq-dead-attempts']::bytea[];
  perform PREFIX_publish(g.dead, array[m.body], array[m.key], array[null::bytea], array[m.priority],
    array[null::bigint], array[null::bigint], array[array_length(names, 1)], names,
    m.vals || array[convert_to(p_reason, 'UTF8'), topic_name, g.name, convert_to(m.id::text, 'UTF8'),
      convert_to(p_attempts::text, 'UTF8')]);
  perform PREFIX_done(p_group, p_message);
end $$;

-- Without a message: one row with the time until something is due, or none.
create or replace function PREFIX_take(p_group int, p_max int)
returns table (id bigint, token bigint, attempts int, lease bigint, priority smallint, key bytea, dedup bytea,
  names bytea[], vals bytea[], body bytea, wait bigint) language plpgsql as $$
declare g PREFIX_groups; r record; room bigint;
begin
  -- A lease that a crash forgets is one that ended.
  perform set_config('synchronous_commit', 'off', true);
  perform pg_advisory_xact_lock(hashtext('PREFIX'), p_group);
  select * into g from PREFIX_groups where PREFIX_groups.id = p_group;
  if not found then raise exception 'no such group' using errcode = 'no_data_found'; end if;
  for r in
    select d.message, d.attempts from PREFIX_deliveries d
    where d.grp = p_group and not d.ready and d.due <= clock_timestamp()
    order by d.due limit 1000 for update skip locked
  loop
    if g.deliveries_max > 0 and r.attempts >= g.deliveries_max then
      perform PREFIX_bury(p_group, r.message, r.attempts, r.attempts || ' deliveries without success');
    else
      update PREFIX_deliveries d set ready = true, token = 0 where d.grp = p_group and d.message = r.message;
    end if;
  end loop;
  select g.in_flight_max - count(*) into room from PREFIX_deliveries d where d.grp = p_group and d.token <> 0;
  return query
    with picked as (
      select d.message from PREFIX_deliveries d
      where d.grp = p_group and d.ready and (not g.ordered or d.key is null or not exists (
        select 1 from PREFIX_deliveries e
        where e.grp = p_group and e.key = d.key and e.message <> d.message
          and (e.message < d.message or e.token <> 0)))
      order by d.priority desc, d.message
      limit greatest(least(p_max, room), 0) for update skip locked),
    leased as (
      update PREFIX_deliveries d
      set ready = false, token = nextval('PREFIX_tokens'), attempts = d.attempts + 1,
        due = clock_timestamp() + PREFIX_us(g.lease)
      from picked p where d.grp = p_group and d.message = p.message
      returning d.message, d.token, d.attempts)
    select l.message, l.token, l.attempts, g.lease, m.priority, m.key, m.dedup, m.names, m.vals, m.body, 0::bigint
    from leased l join PREFIX_messages m on m.id = l.message
    order by m.priority desc, l.message;
  if not found then
    select ceil(extract(epoch from min(d.due) - clock_timestamp()) * 1000000)::bigint into wait
      from PREFIX_deliveries d where d.grp = p_group and not d.ready;
    return next;
  end if;
end $$;

-- How: 0 done, 1 retry, 2 release, 3 dead. False when the lease had ended.
create or replace function PREFIX_settle(
  p_group int, p_message bigint, p_token bigint, p_how int, p_delay bigint, p_reason text)
returns boolean language plpgsql as $$
declare g PREFIX_groups; tried int;
begin
  select d.attempts into tried from PREFIX_deliveries d
    where d.grp = p_group and d.message = p_message and d.token = p_token and d.due > clock_timestamp()
    for update;
  if not found then return false; end if;
  select * into g from PREFIX_groups where id = p_group;
  if p_how in (1, 2) or (p_how = 0 and not g.durable) then
    perform set_config('synchronous_commit', 'off', true);
  end if;
  if p_how = 0 then
    perform PREFIX_done(p_group, p_message);
  elsif p_how = 3 then
    perform PREFIX_bury(p_group, p_message, tried, p_reason);
  elsif p_how = 1 and g.deliveries_max > 0 and tried >= g.deliveries_max then
    perform set_config('synchronous_commit', 'on', true);
    perform PREFIX_bury(p_group, p_message, tried, tried || ' deliveries without success');
  else
    update PREFIX_deliveries set token = 0, ready = p_delay = 0, due = clock_timestamp() + PREFIX_us(p_delay),
        attempts = attempts - case when p_how = 2 then 1 else 0 end
      where grp = p_group and message = p_message;
  end if;
  if p_how <> 0 or g.ordered then perform pg_notify('PREFIX', g.topic::text); end if;
  return true;
end $$;

create or replace function PREFIX_extend(p_group int, p_message bigint, p_token bigint, p_by bigint)
returns boolean language plpgsql as $$
begin
  perform set_config('synchronous_commit', 'off', true);
  update PREFIX_deliveries set due = clock_timestamp() + PREFIX_us(p_by)
    where grp = p_group and message = p_message and token = p_token and due > clock_timestamp();
  return found;
end $$;
