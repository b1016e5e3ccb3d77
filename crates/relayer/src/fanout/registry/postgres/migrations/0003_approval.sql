-- Bots that wait for the operator's approval are registered and cannot be followed. All that were there may be.
ALTER TABLE bots ADD COLUMN approved boolean NOT NULL DEFAULT true;
