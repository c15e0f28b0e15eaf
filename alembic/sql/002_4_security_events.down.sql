DROP TRIGGER users_forget_security_events ON users;
DROP FUNCTION forget_security_events;
DROP TABLE security_events;
