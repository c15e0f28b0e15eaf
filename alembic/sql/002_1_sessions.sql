-- Login sessions.

-- Raised by whatever ends all sessions of an account, so that a login that began before it and
-- commits after it is refused.
ALTER TABLE users ADD COLUMN auth_epoch BIGINT NOT NULL DEFAULT 0;
