-- Sealed secrets cannot be opened here: their endpoints are switched off until they get new ones.
UPDATE webhook_endpoints SET enabled = false, disabled_reason = 'its sealed secret was left behind'
WHERE secret_key_id IS NOT NULL;
ALTER TABLE webhook_endpoints DROP COLUMN secret_key_id;
