-- The exchange's own id of the account that the books are of, where it tells one: a key of another account is refused,
-- and so are two books of one account, which would promise the same money twice.
-- depends: 0003_market_rules

ALTER TABLE accounts ADD COLUMN exchange_account label;

CREATE UNIQUE INDEX accounts_exchange_account ON accounts (mode, exchange, endpoint, exchange_account)
    WHERE exchange_account IS NOT NULL;
