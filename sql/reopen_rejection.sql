update datapass_pull_rejections
   set accepted_at = null, accepted_reason = null
 where ref = $1
