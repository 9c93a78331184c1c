-- What the exchange accepts, as execution read it last: risk reaches no exchange, and the checks judge orders by the
-- rules of their time. A row is added when a symbol's rules change, and its `read_at` moves while they do not.
-- depends: 0002_functions

CREATE TABLE market_rules (
    account integer NOT NULL REFERENCES accounts,
    symbol label NOT NULL,
    since timestamptz NOT NULL,
    read_at timestamptz NOT NULL,
    rules jsonb NOT NULL,
    PRIMARY KEY (account, symbol, since)
);
