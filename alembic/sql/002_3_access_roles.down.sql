DELETE FROM roles WHERE is_builtin;
