-- The ledger's tables. Money is numeric without a scale: exact, never NaN or infinite. Times are UTC.
--
-- Lock order. Everything that changes an account's state takes the account's advisory lock first (`enter`) and is
-- alone with the account from then on, so that no further lock can be waited for: bots, balances, orders,
-- positions may follow in any order. Statements that read after that lock must be statements of their own: their
-- snapshot is taken when they begin, and only then it shows what the one before has committed.
--
-- Unique indexes begin with the column that alone finds a row. One that began with the account would look as good to
-- the planner as the index that is meant, as long as the tables are empty, and the plan would stay.
--
-- `orders`, `decisions`, `fills`, `entries` and `outbox` have no foreign keys: each would cost the reservation a
-- further lookup and lock. They are written by the ledger alone, and its invariants compare them.
-- depends:

-- What one column must be is in its domain: PostgreSQL keeps a domain's check ready, while it reads the CHECKs of a
-- table anew in every statement, which made the inserts of a reservation three times slower.
CREATE DOMAIN finite AS numeric CHECK (VALUE > '-Infinity' AND VALUE < 'Infinity');
CREATE DOMAIN positive AS numeric CHECK (VALUE > 0 AND VALUE < 'Infinity');
CREATE DOMAIN not_negative AS numeric CHECK (VALUE >= 0 AND VALUE < 'Infinity');
CREATE DOMAIN label AS text CHECK (VALUE <> '');
CREATE DOMAIN mode AS text CHECK (VALUE IN ('paper', 'testnet', 'live'));
CREATE DOMAIN side AS text CHECK (VALUE IN ('buy', 'sell'));
CREATE DOMAIN leg AS text CHECK (VALUE IN ('entry', 'stop', 'target', 'exit', 'flatten'));
CREATE DOMAIN order_type AS text CHECK (VALUE IN ('market', 'limit', 'stop_market', 'stop_limit'));
CREATE DOMAIN time_in_force AS text CHECK (VALUE IN ('gtc', 'ioc'));
CREATE DOMAIN order_state AS text CHECK (VALUE IN (
    'approved', 'submitting', 'open', 'cancelling', 'unresolved',
    'filled', 'cancelled', 'rejected', 'denied', 'not_found'
));
CREATE DOMAIN position_state AS text CHECK (VALUE IN ('flat', 'open', 'closing', 'dust'));
CREATE DOMAIN bot_state AS text CHECK (VALUE IN ('Running', 'Paused', 'ReduceOnly', 'Flatten', 'Stopped'));
CREATE DOMAIN entry_kind AS text CHECK (VALUE IN ('opening', 'fill', 'fee', 'outside', 'reversal'));
CREATE DOMAIN role AS text CHECK (VALUE IN ('risk', 'execution'));

CREATE TABLE accounts (
    id integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    mode mode NOT NULL,
    exchange label NOT NULL,
    endpoint text NOT NULL,
    name label NOT NULL,
    quote label,
    opened_at timestamptz,
    UNIQUE (mode, exchange, endpoint, name),
    CHECK ((opened_at IS NULL) = (quote IS NULL))
);

CREATE TABLE bots (
    id integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    account integer NOT NULL REFERENCES accounts,
    name label NOT NULL,
    risk_epoch bigint NOT NULL DEFAULT 0,
    risk_since timestamptz,
    execution_epoch bigint NOT NULL DEFAULT 0,
    execution_since timestamptz,
    hold_state bot_state,
    hold_reason text,
    hold_by text,
    hold_at timestamptz,
    UNIQUE (account, name),
    CHECK (num_nulls(hold_state, hold_reason, hold_by, hold_at) IN (0, 4))
) WITH (fillfactor = 50);

-- `set_aside` was on the account before it was opened and is nobody's position; `outside_holds` is that, or what
-- other people's open orders lock when that is more. `shortfall` is how far bookings (fills, outside movements,
-- never a reservation) have pushed the available amount below zero: so the last CHECK refuses any reservation
-- that would overcommit the account, whoever asks for it. `bookings` counts what has been booked on it: their sum tells
-- whoever read the account whether it is still worth the same.
CREATE TABLE balances (
    account integer NOT NULL REFERENCES accounts,
    asset label NOT NULL,
    total finite NOT NULL DEFAULT 0,
    reserved not_negative NOT NULL DEFAULT 0,
    set_aside not_negative NOT NULL DEFAULT 0,
    outside_holds not_negative NOT NULL DEFAULT 0,
    shortfall not_negative NOT NULL DEFAULT 0,
    bookings bigint NOT NULL DEFAULT 0,
    PRIMARY KEY (account, asset),
    CONSTRAINT never_overcommitted CHECK (total - reserved - outside_holds + shortfall >= 0)
) WITH (fillfactor = 50);

-- Append-only. A cause is counted once.
CREATE TABLE entries (
    number bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    account integer NOT NULL,
    asset text NOT NULL,
    amount finite NOT NULL,
    kind entry_kind NOT NULL,
    cause text NOT NULL,
    at timestamptz NOT NULL,
    UNIQUE (cause, kind, asset, account)
);

-- Numbers orders and decisions in one order.
CREATE SEQUENCE numbers;

-- Few among many, and asked for with each measure of the equity.
CREATE INDEX entries_outside ON entries (account) WHERE kind IN ('outside', 'reversal');

-- What was decided of intents that made no order: refusals, and exits. An approved entry is its order. Without a
-- `reason` it was approved.
CREATE TABLE decisions (
    number bigint NOT NULL DEFAULT nextval('numbers') PRIMARY KEY,
    bot integer NOT NULL,
    intent_id text NOT NULL,
    symbol text NOT NULL,
    side side NOT NULL,
    reason text,
    detail text NOT NULL,
    confidence finite NOT NULL,
    available_after finite,
    correlation_id text NOT NULL,
    at timestamptz NOT NULL,
    UNIQUE (intent_id, bot)
);

CREATE INDEX decisions_refused ON decisions (bot, reason) WHERE reason IS NOT NULL;

-- An entry carries its decision (`cause` is its intent, of which its client order id is a function), and its
-- reservation: it holds `reserve_amount` less `reserve_drawn` until it is finished. `stop_price` is the trigger of a
-- stop order; what an entry's position shall be protected with is in `protect_*`.
--
-- That `finished_at` and `state` agree is an invariant and no CHECK, and what is only passed on (`protect_*` to the
-- position, which checks it) or told (the decision's figures) has a plain type: each check costs a reservation some
-- hundredths.
CREATE TABLE orders (
    number bigint NOT NULL DEFAULT nextval('numbers') PRIMARY KEY,
    account integer NOT NULL,
    bot integer NOT NULL,
    client_order_id text NOT NULL,
    symbol text NOT NULL,
    side side NOT NULL,
    leg leg NOT NULL,
    type order_type NOT NULL,
    time_in_force time_in_force NOT NULL,
    amount positive NOT NULL,
    limit_price positive,
    stop_price positive,
    state order_state NOT NULL,
    cause text NOT NULL,
    attempt integer NOT NULL,
    correlation_id text NOT NULL,
    created_at timestamptz NOT NULL,
    expires_at timestamptz,
    filled not_negative NOT NULL DEFAULT 0,
    cost not_negative NOT NULL DEFAULT 0,
    exchange_order_id text,
    claimed_at timestamptz,
    finished_at timestamptz,
    reason text,
    protect_stop numeric,
    protect_target numeric,
    indicators text[] NOT NULL DEFAULT '{}',
    reserve_asset text,
    reserve_amount positive,
    reserve_drawn not_negative,
    confidence numeric,
    available_after numeric,
    UNIQUE (client_order_id, account)
) WITH (fillfactor = 70);

-- Not by state: so that only an order's end touches this index.
CREATE INDEX orders_unfinished ON orders (account, bot) WHERE finished_at IS NULL;

CREATE TABLE fills (
    number bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    account integer NOT NULL,
    bot integer NOT NULL,
    symbol text NOT NULL,
    exchange_trade_id text NOT NULL,
    client_order_id text NOT NULL,
    side side NOT NULL,
    price positive NOT NULL,
    amount positive NOT NULL,
    at timestamptz NOT NULL,
    fee_asset text,
    fee_amount finite,
    fee_quote_value finite,
    UNIQUE (exchange_trade_id, symbol, account),
    CHECK ((fee_asset IS NULL) = (fee_amount IS NULL))
);

-- `bought` and `bought_cost` are of the round trip in progress; `adopted` is what was there at the opening.
CREATE TABLE positions (
    bot integer NOT NULL REFERENCES bots,
    symbol text NOT NULL,
    state position_state NOT NULL,
    amount finite NOT NULL,
    cost finite NOT NULL,
    exit_hold not_negative NOT NULL,
    trade_id text,
    entry_order text,
    opened_at timestamptz,
    stop_price positive,
    target_price positive,
    high_water positive,
    closing_reason text,
    exit_attempts integer NOT NULL,
    realised finite NOT NULL,
    fees finite NOT NULL,
    trade_realised finite NOT NULL,
    trade_fees finite NOT NULL,
    bought finite NOT NULL,
    bought_cost finite NOT NULL,
    last_order text,
    adopted not_negative NOT NULL DEFAULT 0,
    PRIMARY KEY (bot, symbol),
    CHECK (exit_hold <= greatest(amount, 0)),
    CHECK ((state IN ('open', 'closing')) = (trade_id IS NOT NULL)),
    CHECK ((state = 'closing') = (closing_reason IS NOT NULL))
) WITH (fillfactor = 50);

CREATE TABLE trades (
    number bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    bot integer NOT NULL,
    trade_id text NOT NULL,
    symbol text NOT NULL,
    entry_order text,
    opened_at timestamptz NOT NULL,
    closed_at timestamptz NOT NULL,
    bought finite NOT NULL,
    cost finite NOT NULL,
    profit finite NOT NULL,
    fees finite NOT NULL,
    leg leg NOT NULL CHECK (leg <> 'entry'),
    indicators text[] NOT NULL,
    UNIQUE (trade_id, bot)
);

CREATE INDEX trades_closed ON trades (bot, closed_at, number);
CREATE INDEX trades_by_entry ON trades (entry_order, bot);

CREATE TABLE indicator_performance (
    bot integer NOT NULL,
    indicator text NOT NULL,
    wins integer NOT NULL DEFAULT 0,
    losses integer NOT NULL DEFAULT 0,
    PRIMARY KEY (bot, indicator)
);

-- Holds only what is not published yet: a published row is deleted. An approved entry has no row here: until it is
-- claimed, its order is the announcement.
CREATE TABLE outbox (
    number bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    bot integer NOT NULL,
    role role NOT NULL,
    message json NOT NULL
);

CREATE TABLE events (
    number bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    bot integer NOT NULL,
    digest text NOT NULL,
    name text NOT NULL,
    severity text NOT NULL,
    at timestamptz NOT NULL,
    fields jsonb NOT NULL,
    UNIQUE (digest, bot)
);

CREATE TABLE equity_points (
    bot integer NOT NULL,
    at timestamptz NOT NULL,
    equity finite NOT NULL,
    outside finite NOT NULL DEFAULT 0,
    PRIMARY KEY (bot, at)
);
