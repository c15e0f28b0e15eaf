"""How it is found: the only home of queries, one repository a table."""
