"""Pure cryptography: passwords and tokens; values in, values out."""
