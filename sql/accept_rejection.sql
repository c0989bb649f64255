update datapass_pull_rejections
   set accepted_at = now(), accepted_reason = $2
 where ref = $1
