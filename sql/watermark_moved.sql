-- A cycle that leaves the watermark where it was does not touch its row.
SELECT updated_at::timestamptz
  FROM datapass_pull_watermarks
 WHERE id = 1
