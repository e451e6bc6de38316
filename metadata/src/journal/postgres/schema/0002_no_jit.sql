-- A sequential scan that is forbidden but needed, as of the one row of the head, has so high a price that the planner has every call
-- compiled to machine code: a tenth of a second of processor time for a statement of less than a millisecond.
ALTER FUNCTION {schema}.append(bigint, bigint, bigint, bytea) SET jit = off;
