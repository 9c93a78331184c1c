"""The ledger: the one authority over an account's balance, in PostgreSQL."""
