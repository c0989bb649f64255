-- They passed, or left the listing.
UPDATE datapass_pull_rejections
   SET closed_at = now()
 WHERE closed_at IS NULL
   AND ref = ANY ($1)
