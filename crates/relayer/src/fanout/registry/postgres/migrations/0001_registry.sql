-- What a registry keeps. Times are Unix milliseconds. A secret is sealed with a key that follows from the one whose
-- public half is the owner in meta.
--
-- What is checked here is what a gateway checks when it reads: a row that it refuses would keep it from all others.

CREATE TABLE meta (
    key text PRIMARY KEY,
    value bytea NOT NULL,
    CONSTRAINT meta_owner_check CHECK (key <> 'owner' OR octet_length(value) = 32)
);

CREATE TABLE bots (
    pubkey bytea PRIMARY KEY CHECK (octet_length(pubkey) = 32),
    name text NOT NULL CHECK (
        char_length(name) BETWEEN 1 AND 100 AND name !~ E'[\\u0001-\\u001F\\u007F-\\u009F]'
    ),
    registered_at_ms bigint NOT NULL CHECK (registered_at_ms >= 0)
);

CREATE TABLE follows (
    bot bytea NOT NULL REFERENCES bots,
    follower bytea NOT NULL CHECK (octet_length(follower) = 32),
    secret bytea CHECK (octet_length(secret) BETWEEN 1 AND 297),
    since_ms bigint NOT NULL CHECK (since_ms >= 0),
    PRIMARY KEY (bot, follower)
);
