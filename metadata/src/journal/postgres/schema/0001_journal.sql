-- One row for the head. Whoever appends holds it until the commit is durable, so positions are dense and become visible in order.
CREATE TABLE {schema}.head (
    is_only boolean PRIMARY KEY DEFAULT true CHECK (is_only),
    lsn bigint NOT NULL CHECK (lsn >= 0)
) WITH (fillfactor = 10);

INSERT INTO {schema}.head (lsn) VALUES (0);

-- The mark is drawn anew for each append: two histories that went apart have different marks at one position.
CREATE TABLE {schema}.entries (
    lsn bigint PRIMARY KEY,
    mark bigint NOT NULL,
    bytes bytea NOT NULL
);

ALTER TABLE {schema}.entries ALTER COLUMN bytes SET STORAGE EXTERNAL;

-- Puts an entry at the end, in one round trip. Refused where a commit would not be durable (SH001), and to a caller who has
-- seen an entry, at position known_lsn, that this history does not have there (SH002).
CREATE FUNCTION {schema}.append(known_lsn bigint, known_mark bigint, new_mark bigint, entry bytea) RETURNS bigint
LANGUAGE plpgsql
SET lock_timeout = '4s'
SET enable_seqscan = off
AS $append$
DECLARE
    new_lsn bigint;
BEGIN
    IF current_setting('fsync') = 'off' OR current_setting('synchronous_commit') = 'off' THEN
        RAISE EXCEPTION 'the server has fsync or synchronous_commit off' USING ERRCODE = 'SH001';
    END IF;
    UPDATE {schema}.head SET lsn = lsn + 1 RETURNING lsn INTO STRICT new_lsn;
    IF known_lsn >= new_lsn THEN
        RAISE EXCEPTION 'the journal ends at %, but entry % was there', new_lsn - 1, known_lsn USING ERRCODE = 'SH002';
    END IF;
    IF EXISTS (SELECT 1 FROM {schema}.entries AS e WHERE e.lsn = known_lsn AND e.mark <> known_mark) THEN
        RAISE EXCEPTION 'entry % is another one than was there', known_lsn USING ERRCODE = 'SH002';
    END IF;
    INSERT INTO {schema}.entries (lsn, mark, bytes) VALUES (new_lsn, new_mark, entry);
    PERFORM pg_notify('{schema}', new_lsn::text);
    RETURN new_lsn;
END
$append$;
