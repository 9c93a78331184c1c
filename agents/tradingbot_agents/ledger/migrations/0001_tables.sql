-- The ledger's tables. Money is numeric without a scale: exact, never NaN or infinite. Times are UTC.
--
-- Lock order. Everything that changes an account's state locks its row of `accounts` first (FOR UPDATE) and is
-- alone with the account from then on, so that no further lock can be waited for: bots, balances, orders,
-- positions may follow in any order. Statements that read after that lock must be statements of their own: their
-- snapshot is taken when they begin, and only then it shows what the one before has committed.
--
-- `orders`, `decisions`, `fills`, `entries` and `outbox` have no foreign keys: each would cost the reservation a
-- further lookup and lock. They are written by the ledger alone, and its invariants compare them.
-- depends:

CREATE DOMAIN finite AS numeric CHECK (VALUE > '-Infinity' AND VALUE < 'Infinity');

CREATE TABLE accounts (
    id integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    mode text NOT NULL CHECK (mode IN ('paper', 'testnet', 'live')),
    exchange text NOT NULL CHECK (exchange <> ''),
    endpoint text NOT NULL,
    name text NOT NULL CHECK (name <> ''),
    quote text CHECK (quote <> ''),
    opened_at timestamptz,
    UNIQUE (mode, exchange, endpoint, name),
    CHECK ((opened_at IS NULL) = (quote IS NULL))
);

CREATE TABLE bots (
    id integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    account integer NOT NULL REFERENCES accounts,
    name text NOT NULL CHECK (name <> ''),
    risk_epoch bigint NOT NULL DEFAULT 0,
    risk_since timestamptz,
    execution_epoch bigint NOT NULL DEFAULT 0,
    execution_since timestamptz,
    hold_state text CHECK (hold_state IN ('Running', 'Paused', 'ReduceOnly', 'Flatten', 'Stopped')),
    hold_reason text,
    hold_by text,
    hold_at timestamptz,
    UNIQUE (account, name),
    CHECK (num_nulls(hold_state, hold_reason, hold_by, hold_at) IN (0, 4))
) WITH (fillfactor = 50);

-- `set_aside` was on the account before it was opened and is nobody's position; `outside_holds` is that, or what
-- other people's open orders lock when that is more. `shortfall` is how far bookings (fills, outside movements,
-- never a reservation) have pushed the available amount below zero: so the last CHECK refuses any reservation
-- that would overcommit the account, whoever asks for it.
CREATE TABLE balances (
    account integer NOT NULL REFERENCES accounts,
    asset text NOT NULL CHECK (asset <> ''),
    total finite NOT NULL DEFAULT 0,
    reserved finite NOT NULL DEFAULT 0 CHECK (reserved >= 0),
    set_aside finite NOT NULL DEFAULT 0 CHECK (set_aside >= 0),
    outside_holds finite NOT NULL DEFAULT 0 CHECK (outside_holds >= set_aside),
    shortfall finite NOT NULL DEFAULT 0 CHECK (shortfall >= 0),
    PRIMARY KEY (account, asset),
    CONSTRAINT never_overcommitted CHECK (total - reserved - outside_holds + shortfall >= 0)
) WITH (fillfactor = 50);

-- Append-only. A cause is counted once.
CREATE TABLE entries (
    number bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    account integer NOT NULL,
    asset text NOT NULL,
    amount finite NOT NULL,
    kind text NOT NULL CHECK (kind IN ('opening', 'fill', 'fee', 'outside', 'reversal')),
    cause text NOT NULL,
    at timestamptz NOT NULL,
    UNIQUE (account, cause, kind, asset)
);

CREATE TABLE decisions (
    number bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    bot integer NOT NULL,
    intent_id text NOT NULL,
    symbol text NOT NULL,
    side text NOT NULL CHECK (side IN ('buy', 'sell')),
    outcome text NOT NULL CHECK (outcome IN ('approved', 'rejected')),
    reason text,
    detail text NOT NULL,
    confidence finite NOT NULL,
    client_order_id text,
    reserved finite,
    available_after finite,
    correlation_id text NOT NULL,
    at timestamptz NOT NULL,
    UNIQUE (bot, intent_id),
    CHECK ((outcome = 'rejected') = (reason IS NOT NULL)),
    CHECK (outcome = 'approved' OR num_nonnulls(client_order_id, reserved) = 0),
    CONSTRAINT approved_within_available CHECK (reserved IS NULL OR available_after >= 0)
);

CREATE INDEX decisions_refused ON decisions (bot, reason) WHERE reason IS NOT NULL;

-- An entry carries its reservation: the two live and end together. `stop_price` is the trigger of a stop order;
-- what an entry's position shall be protected with is in `protect_*`.
CREATE TABLE orders (
    number bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    account integer NOT NULL,
    bot integer NOT NULL,
    client_order_id text NOT NULL,
    symbol text NOT NULL,
    side text NOT NULL CHECK (side IN ('buy', 'sell')),
    leg text NOT NULL CHECK (leg IN ('entry', 'stop', 'target', 'exit', 'flatten')),
    type text NOT NULL CHECK (type IN ('market', 'limit', 'stop_market', 'stop_limit')),
    time_in_force text NOT NULL CHECK (time_in_force IN ('gtc', 'ioc')),
    amount finite NOT NULL CHECK (amount > 0),
    limit_price finite CHECK (limit_price > 0),
    stop_price finite CHECK (stop_price > 0),
    state text NOT NULL CHECK (state IN (
        'approved', 'submitting', 'open', 'cancelling', 'unresolved',
        'filled', 'cancelled', 'rejected', 'denied', 'not_found'
    )),
    cause text NOT NULL,
    attempt integer NOT NULL,
    correlation_id text NOT NULL,
    created_at timestamptz NOT NULL,
    expires_at timestamptz,
    filled finite NOT NULL DEFAULT 0 CHECK (filled >= 0),
    cost finite NOT NULL DEFAULT 0 CHECK (cost >= 0),
    exchange_order_id text,
    claimed_at timestamptz,
    finished_at timestamptz,
    reason text,
    protect_stop finite CHECK (protect_stop > 0),
    protect_target finite CHECK (protect_target > 0),
    indicators text[] NOT NULL DEFAULT '{}',
    reserve_asset text,
    reserve_amount finite CHECK (reserve_amount > 0),
    reserve_drawn finite CHECK (reserve_drawn >= 0),
    reservation text CHECK (reservation IN ('held', 'settled')),
    UNIQUE (account, client_order_id),
    CHECK ((side = 'buy') = (leg = 'entry')),
    CHECK (leg = 'entry' OR state <> 'approved'),
    CHECK (num_nulls(reserve_asset, reserve_amount, reserve_drawn, reservation)
        = CASE WHEN leg = 'entry' THEN 0 ELSE 4 END),
    CONSTRAINT finished_when_final CHECK (
        (finished_at IS NOT NULL) = (state IN ('filled', 'cancelled', 'rejected', 'denied', 'not_found'))
    ),
    CONSTRAINT final_orders_hold_nothing CHECK ((finished_at IS NOT NULL) = (reservation <> 'held'))
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
    side text NOT NULL CHECK (side IN ('buy', 'sell')),
    price finite NOT NULL CHECK (price > 0),
    amount finite NOT NULL CHECK (amount > 0),
    at timestamptz NOT NULL,
    fee_asset text,
    fee_amount finite,
    fee_quote_value finite,
    UNIQUE (account, symbol, exchange_trade_id),
    CHECK ((fee_asset IS NULL) = (fee_amount IS NULL))
);

-- `bought` and `bought_cost` are of the round trip in progress; `adopted` is what was there at the opening.
CREATE TABLE positions (
    bot integer NOT NULL REFERENCES bots,
    symbol text NOT NULL,
    state text NOT NULL CHECK (state IN ('flat', 'open', 'closing', 'dust')),
    amount finite NOT NULL,
    cost finite NOT NULL,
    exit_hold finite NOT NULL CHECK (exit_hold >= 0),
    trade_id text,
    entry_order text,
    opened_at timestamptz,
    stop_price finite CHECK (stop_price > 0),
    target_price finite CHECK (target_price > 0),
    high_water finite CHECK (high_water > 0),
    closing_reason text,
    exit_attempts integer NOT NULL,
    realised finite NOT NULL,
    fees finite NOT NULL,
    trade_realised finite NOT NULL,
    trade_fees finite NOT NULL,
    bought finite NOT NULL,
    bought_cost finite NOT NULL,
    adopted finite NOT NULL DEFAULT 0 CHECK (adopted >= 0),
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
    leg text NOT NULL CHECK (leg IN ('stop', 'target', 'exit', 'flatten')),
    indicators text[] NOT NULL,
    UNIQUE (bot, trade_id)
);

CREATE INDEX trades_closed ON trades (bot, closed_at, number);
CREATE INDEX trades_by_entry ON trades (bot, entry_order);

CREATE TABLE indicator_performance (
    bot integer NOT NULL,
    indicator text NOT NULL,
    wins integer NOT NULL DEFAULT 0,
    losses integer NOT NULL DEFAULT 0,
    PRIMARY KEY (bot, indicator)
);

-- Holds only what is not published yet: a published row is deleted.
CREATE TABLE outbox (
    number bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    bot integer NOT NULL,
    role text NOT NULL CHECK (role IN ('risk', 'execution')),
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
    UNIQUE (bot, digest)
);

CREATE TABLE equity_points (
    bot integer NOT NULL,
    at timestamptz NOT NULL,
    equity finite NOT NULL,
    PRIMARY KEY (bot, at)
);
