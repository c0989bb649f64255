-- The cycles so far, in the order in which they were recorded: a client's clock decides nothing.
-- `had_entries` is whether a success of the last two days listed entries of the definition; one
-- from before a reset of the watermark may have been about another. Always one row.
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
