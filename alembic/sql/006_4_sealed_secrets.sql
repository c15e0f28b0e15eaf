-- Signing secrets of webhooks are sealed by the key ring. Those without a key id were stored before, as
-- they are; rotating the keys seals them too.
ALTER TABLE webhook_endpoints ADD COLUMN secret_key_id SMALLINT;
