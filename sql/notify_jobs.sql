-- Wakes a waiting worker when the transaction commits. GoodJob parses the payload as JSON.
SELECT pg_notify('good_job', json_build_object('queue_name', $1::text)::text)
