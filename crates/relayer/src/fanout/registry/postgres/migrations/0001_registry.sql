-- What a registry keeps. Times are Unix milliseconds. A secret is sealed with a key that follows from the one whose
-- public half is the owner in meta.

CREATE TABLE meta (
    key text PRIMARY KEY,
    value bytea NOT NULL
);

CREATE TABLE bots (
    pubkey bytea PRIMARY KEY CHECK (octet_length(pubkey) = 32),
    name text NOT NULL CHECK (char_length(name) BETWEEN 1 AND 100),
    registered_at_ms bigint NOT NULL CHECK (registered_at_ms >= 0)
);

CREATE TABLE follows (
    bot bytea NOT NULL REFERENCES bots,
    follower bytea NOT NULL CHECK (octet_length(follower) = 32),
    secret bytea CHECK (octet_length(secret) BETWEEN 1 AND 1024),
    since_ms bigint NOT NULL CHECK (since_ms >= 0),
    PRIMARY KEY (bot, follower)
);
