-- Earlier cycles, in the order in which they were recorded, which does not depend on a client's clock.
-- `had_entries` is whether a success of the last two days listed entries of the definition. Cycles
-- before a reset of the watermark do not count, since their definition may be another one. Returns
-- exactly one row.
select success.started_at::timestamptz, success.seen::bigint, first.started_at::timestamptz,
       last.reason, entries.had_entries
  from (select min(started_at) as started_at from datapass_pull_runs where kind = 'cycle') as first
  left join (select started_at, seen
               from datapass_pull_runs
              where outcome = 'success' and kind = 'cycle'
              order by id desc
              limit 1) as success on true
  left join (select reason
               from datapass_pull_runs
              where kind = 'cycle'
              order by id desc
              limit 1) as last on true
 cross join (select exists (
                 select from datapass_pull_runs
                  where outcome = 'success' and kind = 'cycle'
                    and matched + skipped > 0
                    and started_at > now() - interval '2 days'
                    and id > coalesce((select max(id) from datapass_pull_runs
                                        where kind = 'watermark reset'), 0)) as had_entries) as entries
