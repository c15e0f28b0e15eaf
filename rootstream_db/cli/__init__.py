"""The command ``rootstream-db``: one module for each group of commands."""
