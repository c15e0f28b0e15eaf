DROP TRIGGER users_forget_mfa_attempts ON users;
DROP TABLE mfa_throttle;
DROP TABLE mfa_attempts;
DROP TABLE passkey_challenges;
DROP TABLE trusted_devices;
DROP TABLE mfa_recovery_codes;
DROP TABLE user_mfa;
DROP FUNCTION refuse_attempt_change;
DROP FUNCTION forget_mfa_attempts;
