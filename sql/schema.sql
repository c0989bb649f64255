-- Creates missing tables and does not change existing ones, which `migrate` upgrades from the catalog.

create table if not exists proactivite_requests (
    id bigserial primary key,
    datapass_authorization_id text not null unique,
    datapass_demande_id bigint,
    siret text,
    scholarship_level text,
    entity_type text,
    code_insee_entity text,
    code_insee_communes text[],
    transmission_date date,
    last_validated_at timestamptz,
    status text not null default 'pending',
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now()
);

-- Kept when the row is deleted, so that it is not created again.
create table if not exists datapass_pull_handled (
    datapass_authorization_id text primary key,
    last_validated_at timestamptz,
    handled_at timestamptz not null default now()
);

create table if not exists datapass_pull_watermarks (
    id integer primary key default 1
        constraint datapass_pull_watermarks_one_row check (id = 1),
    definition_id text,
    last_validated_at timestamptz,
    skip_before timestamptz,
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now()
);

insert into datapass_pull_watermarks (id, created_at, updated_at)
select 1, now(), now()
where not exists (select from datapass_pull_watermarks);

create table if not exists datapass_pull_rejections (
    id bigserial primary key,
    ref text not null unique,
    demande_id bigint,
    datapass_authorization_id text,
    reasons text[] not null default '{}',
    last_validated_at timestamptz,
    first_seen_at timestamptz not null default now(),
    last_seen_at timestamptz not null default now(),
    times_seen bigint not null default 1,
    accepted_at timestamptz,
    accepted_reason text,
    closed_at timestamptz
);

create table if not exists datapass_pull_runs (
    id bigserial primary key,
    run_id uuid,
    kind text not null default 'cycle',
    outcome text,
    reason text,
    stage text,
    pages bigint not null default 0,
    seen bigint not null default 0,
    matched bigint not null default 0,
    created bigint not null default 0,
    late bigint not null default 0,
    existing bigint not null default 0,
    deleted bigint not null default 0,
    revalidated bigint not null default 0,
    rejected bigint not null default 0,
    accepted bigint not null default 0,
    skipped bigint not null default 0,
    enqueued bigint not null default 0,
    drift_rewinds bigint not null default 0,
    since timestamptz,
    watermark_before timestamptz,
    watermark timestamptz,
    duration_ms bigint not null default 0,
    dry_run boolean not null default false,
    enqueue text,
    started_at timestamptz not null default now(),
    version text
);

create index if not exists datapass_pull_runs_started_at on datapass_pull_runs (started_at);
