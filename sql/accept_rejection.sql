UPDATE datapass_pull_rejections
   SET accepted_at = now(), accepted_reason = $2
 WHERE ref = $1
