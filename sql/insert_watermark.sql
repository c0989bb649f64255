-- Only needed where the row that `migrate` made was lost.
INSERT INTO datapass_pull_watermarks (id, created_at, updated_at)
VALUES (1, now(), now())
    ON CONFLICT (id) DO NOTHING
