-- What the reality check found, for its trends and its history, and what it must remember between two runs: whom it has
-- told what, and for which failures it has held the bot.
-- depends: 0004_exchange_account

-- A bot has one report of a moment: the newest that was made of it.
CREATE TABLE reality_reports (
    number bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    bot integer NOT NULL REFERENCES bots,
    at timestamptz NOT NULL,
    result label NOT NULL,
    hold text,
    report jsonb NOT NULL,
    UNIQUE (bot, at)
);

-- `told` is the check's own document. Who has the `lease` may tell people: of two checks at once only one does, and one
-- that died holds nobody up for longer than `lease_until`.
CREATE TABLE reality_memory (
    bot integer NOT NULL PRIMARY KEY REFERENCES bots,
    told jsonb NOT NULL DEFAULT '{}',
    held_for text[] NOT NULL DEFAULT '{}',
    lease text,
    lease_until timestamptz,
    CHECK ((lease IS NULL) = (lease_until IS NULL))
);
