-- Tells on the channel moltrade_relayer which rows a statement changed, whoever sent it: "b:" and a bot in hex, or "f:",
-- a bot, ":" and a follower; "*" if they are more than 100, or if nobody knows which. A statement that changed nothing
-- tells nothing, and what is told twice in one transaction is told once.
--
-- An UPDATE tells the rows as they were and as they are, because their keys may have changed.

CREATE FUNCTION tell_bots() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF (SELECT count(*) FROM (SELECT FROM changed LIMIT 101) AS few) > 100 THEN
        PERFORM pg_notify('moltrade_relayer', '*');
    ELSE
        PERFORM pg_notify('moltrade_relayer', 'b:' || encode(pubkey, 'hex')) FROM changed;
    END IF;
    RETURN NULL;
END $$;

CREATE FUNCTION tell_follows() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF (SELECT count(*) FROM (SELECT FROM changed LIMIT 101) AS few) > 100 THEN
        PERFORM pg_notify('moltrade_relayer', '*');
    ELSE
        PERFORM pg_notify('moltrade_relayer', 'f:' || encode(bot, 'hex') || ':' || encode(follower, 'hex'))
        FROM changed;
    END IF;
    RETURN NULL;
END $$;

CREATE FUNCTION tell_all() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_notify('moltrade_relayer', '*');
    RETURN NULL;
END $$;

CREATE TRIGGER tell_insert AFTER INSERT ON bots
    REFERENCING NEW TABLE AS changed FOR EACH STATEMENT EXECUTE FUNCTION tell_bots();
CREATE TRIGGER tell_update_old AFTER UPDATE ON bots
    REFERENCING OLD TABLE AS changed FOR EACH STATEMENT EXECUTE FUNCTION tell_bots();
CREATE TRIGGER tell_update_new AFTER UPDATE ON bots
    REFERENCING NEW TABLE AS changed FOR EACH STATEMENT EXECUTE FUNCTION tell_bots();
CREATE TRIGGER tell_delete AFTER DELETE ON bots
    REFERENCING OLD TABLE AS changed FOR EACH STATEMENT EXECUTE FUNCTION tell_bots();
CREATE TRIGGER tell_truncate AFTER TRUNCATE ON bots
    FOR EACH STATEMENT EXECUTE FUNCTION tell_all();

CREATE TRIGGER tell_insert AFTER INSERT ON follows
    REFERENCING NEW TABLE AS changed FOR EACH STATEMENT EXECUTE FUNCTION tell_follows();
CREATE TRIGGER tell_update_old AFTER UPDATE ON follows
    REFERENCING OLD TABLE AS changed FOR EACH STATEMENT EXECUTE FUNCTION tell_follows();
CREATE TRIGGER tell_update_new AFTER UPDATE ON follows
    REFERENCING NEW TABLE AS changed FOR EACH STATEMENT EXECUTE FUNCTION tell_follows();
CREATE TRIGGER tell_delete AFTER DELETE ON follows
    REFERENCING OLD TABLE AS changed FOR EACH STATEMENT EXECUTE FUNCTION tell_follows();
CREATE TRIGGER tell_truncate AFTER TRUNCATE ON follows
    FOR EACH STATEMENT EXECUTE FUNCTION tell_all();

-- A row for each, so that a statement that changed none tells nothing; it has one row.
CREATE TRIGGER tell_change AFTER INSERT OR UPDATE OR DELETE ON meta
    FOR EACH ROW EXECUTE FUNCTION tell_all();
CREATE TRIGGER tell_truncate AFTER TRUNCATE ON meta
    FOR EACH STATEMENT EXECUTE FUNCTION tell_all();
