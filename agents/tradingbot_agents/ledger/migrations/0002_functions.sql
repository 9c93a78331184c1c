-- What must happen in one round trip. Rules that can wait for several are in Python, where they are pure functions.
-- SQLSTATE TB001 is "fenced off"; its message is the epoch that is current.
-- depends: 0001_tables

CREATE FUNCTION check_epoch(_bot integer, _role text, _epoch bigint) RETURNS void
LANGUAGE plpgsql AS $body$
DECLARE
    current bigint;
BEGIN
    SELECT CASE _role WHEN 'risk' THEN risk_epoch ELSE execution_epoch END INTO current FROM bots WHERE id = _bot;
    IF current IS DISTINCT FROM _epoch THEN
        RAISE EXCEPTION USING ERRCODE = 'TB001', MESSAGE = coalesce(current, 0)::text;
    END IF;
END
$body$;

-- Lock the account, then refuse a stale epoch. Every change of an account's state begins with it. The lock is an
-- advisory one and lasts for the transaction: to lock its row would write that row. The first number is ours alone.
CREATE FUNCTION enter(_account integer, _bot integer, _role text, _epoch bigint) RETURNS void
LANGUAGE plpgsql AS $body$
BEGIN
    PERFORM pg_advisory_xact_lock(1952604524, _account);
    IF _role IS NOT NULL THEN
        PERFORM check_epoch(_bot, _role, _epoch);
    END IF;
END
$body$;

-- Decide a ranked batch of entries, best first: each sees what those before it took. `asked` has a row of texts for each
-- port.EntryProposal, and the answer a text for each, in their order: what is available after it, and of a refusal also
-- the reason and the detail, with spaces between. Of an intent that was decided before, by itself or earlier in the
-- batch, the answer is NULL, and nothing is done.
--
-- Starting a statement costs more than its rows do. So one reads everything, a loop that touches no table decides, and
-- as few as possible write. Each value that goes in or out costs as well: hence one array each way, of texts.
CREATE FUNCTION reserve(_account integer, _bot integer, _role text, _epoch bigint, asked text[]) RETURNS text[]
LANGUAGE plpgsql AS $body$
DECLARE
    -- The columns of `asked`: ledger/rows.py, `proposal`.
    _intent CONSTANT integer := 1;
    _order CONSTANT integer := 2;
    _symbol CONSTANT integer := 3;
    _confidence CONSTANT integer := 4;
    _amount CONSTANT integer := 5;
    _limit_price CONSTANT integer := 6;
    _asset CONSTANT integer := 7;
    _budget CONSTANT integer := 8;
    _stop_price CONSTANT integer := 9;
    _target_price CONSTANT integer := 10;
    _indicators CONSTANT integer := 11;
    _correlation CONSTANT integer := 12;
    _at CONSTANT integer := 13;
    _expires_at CONSTANT integer := 14;
    _most CONSTANT integer := 15;
    current bigint;
    hold text;
    busy text[];
    decided text[];
    asset_now text := asked[1][_asset];
    available numeric;
    taken numeric := 0;
    symbol_wanted text;
    budget numeric;
    most integer;
    reason text;
    detail text;
    answers text[];
    approved integer[] := '{}';
    places bigint[];
BEGIN
    PERFORM pg_advisory_xact_lock(1952604524, _account);
    SELECT
        CASE _role WHEN 'risk' THEN risk_epoch ELSE execution_epoch END,
        CASE WHEN hold_state <> 'Running' THEN format('%s by %s: %s', hold_state, hold_by, hold_reason) END,
        ARRAY(SELECT symbol FROM positions WHERE bot = _bot AND state IN ('open', 'closing')
            UNION ALL SELECT symbol FROM orders
                WHERE account = _account AND bot = _bot AND finished_at IS NULL AND side = 'buy'),
        -- An approved intent is found by the order that is made of it.
        ARRAY(SELECT client_order_id FROM orders
                WHERE account = _account AND client_order_id = ANY (asked[:][_order:_order]) AND bot = _bot
            UNION ALL SELECT intent_id FROM decisions
                WHERE bot = _bot AND intent_id = ANY (asked[:][_intent:_intent])),
        (SELECT total - reserved - outside_holds FROM balances WHERE account = _account AND asset = asset_now)
    INTO current, hold, busy, decided, available
    FROM bots WHERE id = _bot;
    IF current IS DISTINCT FROM _epoch THEN
        PERFORM check_epoch(_bot, _role, _epoch);
    END IF;
    FOR i IN 1 .. array_length(asked, 1) LOOP
        IF asked[i][_intent] = ANY (decided) OR asked[i][_order] = ANY (decided) THEN
            answers[i] := NULL;
            CONTINUE;
        END IF;
        decided := decided || asked[i][_intent];
        IF asked[i][_asset] <> asset_now THEN
            UPDATE balances SET reserved = reserved + taken WHERE account = _account AND asset = asset_now;
            taken := 0;
            asset_now := asked[i][_asset];
            available := (
                SELECT total - reserved - outside_holds FROM balances WHERE account = _account AND asset = asset_now
            );
        END IF;
        available := coalesce(available, 0);
        symbol_wanted := asked[i][_symbol];
        budget := asked[i][_budget];
        most := asked[i][_most];
        IF cardinality(busy) >= most THEN
            -- A position whose entry is not finished counts once.
            busy := ARRAY(SELECT DISTINCT unnest(busy));
        END IF;
        reason := NULL;
        IF hold IS NOT NULL THEN
            reason := 'not_tradable_state';
            detail := hold;
        ELSIF symbol_wanted = ANY (busy) THEN
            reason := 'position_already_open';
            detail := format('%s has a position or an unfinished entry', symbol_wanted);
        ELSIF cardinality(busy) >= most THEN
            reason := 'max_open_positions';
            detail := format('%s of at most %s positions are open', cardinality(busy), most);
        ELSIF budget > available THEN
            reason := 'insufficient_available_balance';
            detail := format('%s %s are needed, %s are available',
                trim_scale(budget), asset_now, trim_scale(available));
        END IF;
        IF reason IS NULL THEN
            available := available - budget;
            taken := taken + budget;
            busy := busy || symbol_wanted;
            answers[i] := available;
            approved := approved || i;
            places[i] := nextval('numbers');
        ELSE
            answers[i] := format('%s %s %s', available, reason, detail);
            INSERT INTO decisions (
                bot, intent_id, symbol, side, reason, detail, confidence, available_after, correlation_id, at
            )
            VALUES (
                _bot, asked[i][_intent], symbol_wanted, 'buy', reason, detail, asked[i][_confidence]::numeric,
                available, asked[i][_correlation], asked[i][_at]::timestamptz
            );
        END IF;
    END LOOP;
    IF approved <> '{}' THEN
        UPDATE balances SET reserved = reserved + taken WHERE account = _account AND asset = asset_now;
        INSERT INTO orders (
            number, account, bot, client_order_id, symbol, side, leg, type, time_in_force, amount, limit_price,
            state, cause, attempt, correlation_id, created_at, expires_at, protect_stop, protect_target, indicators,
            reserve_asset, reserve_amount, reserve_drawn, confidence, available_after
        )
        SELECT places[i], _account, _bot, asked[i][_order], asked[i][_symbol], 'buy', 'entry', 'limit', 'ioc',
            asked[i][_amount]::numeric, asked[i][_limit_price]::numeric, 'approved', asked[i][_intent], 0,
            asked[i][_correlation], asked[i][_at]::timestamptz, asked[i][_expires_at]::timestamptz,
            asked[i][_stop_price]::numeric, asked[i][_target_price]::numeric, asked[i][_indicators]::text[],
            asked[i][_asset], asked[i][_budget]::numeric, 0, asked[i][_confidence]::numeric, answers[i]::numeric
        FROM unnest(approved) AS i;
    END IF;
    RETURN answers;
END
$body$;

-- The same, if the account's bookings are as many as they were; else NULL, and nothing is done.
CREATE FUNCTION reserve_as_of(
    _account integer, _bot integer, _role text, _epoch bigint, asked text[], _as_of bigint
) RETURNS text[]
LANGUAGE plpgsql AS $body$
BEGIN
    PERFORM pg_advisory_xact_lock(1952604524, _account);
    IF (SELECT sum(bookings) FROM balances WHERE account = _account) IS DISTINCT FROM _as_of THEN
        RETURN NULL;
    END IF;
    RETURN reserve(_account, _bot, _role, _epoch, asked);
END
$body$;

-- Record refusals; an intent that was decided before keeps its decision. `asked` is a JSON array of port.Refusal; the
-- answer says of each whether it is new.
CREATE FUNCTION refuse(
    _account integer, _bot integer, _role text, _epoch bigint, asked json, OUT news boolean[]
)
LANGUAGE plpgsql AS $body$
DECLARE
    r record;
BEGIN
    news := '{}';
    PERFORM enter(_account, _bot, _role, _epoch);
    FOR r IN SELECT * FROM json_to_recordset(asked) AS (
        intent_id text, entry_order text, symbol text, side text, reason text, detail text, confidence numeric,
        correlation_id text, at timestamptz
    ) LOOP
        INSERT INTO decisions (bot, intent_id, symbol, side, reason, detail, confidence, correlation_id, at)
            SELECT _bot, r.intent_id, r.symbol, r.side, r.reason, r.detail, r.confidence, r.correlation_id, r.at
                WHERE NOT EXISTS (
                    SELECT FROM orders o
                        WHERE o.account = _account AND o.client_order_id = r.entry_order AND o.bot = _bot
                )
            ON CONFLICT (intent_id, bot) DO NOTHING;
        news := news || FOUND;
    END LOOP;
END
$body$;

-- The following need not be on disk when they return: the server outlives our process, so that a kill of ours
-- loses nothing, and what a crash of the machine would take back is published, observed or measured again.

-- Lost: a message is published twice, which every consumer expects.
CREATE FUNCTION mark_published(_bot integer, _numbers bigint[]) RETURNS void
LANGUAGE plpgsql AS $body$
BEGIN
    PERFORM set_config('synchronous_commit', 'off', true);
    DELETE FROM outbox WHERE bot = _bot AND number = ANY (_numbers);
END
$body$;

-- Lost: the mark of the last fraction of a second, which the next price raises again.
CREATE FUNCTION watch(
    _account integer, _bot integer, _role text, _epoch bigint, _symbol text, _high_water numeric, _stop_price numeric
) RETURNS void
LANGUAGE plpgsql AS $body$
BEGIN
    PERFORM set_config('synchronous_commit', 'off', true);
    PERFORM enter(_account, _bot, _role, _epoch);
    UPDATE positions SET high_water = _high_water, stop_price = _stop_price
        WHERE bot = _bot AND symbol = _symbol AND state IN ('open', 'closing');
END
$body$;

-- Lost: one point of a curve.
CREATE FUNCTION record_equity(_bot integer, _at timestamptz, _equity numeric, _outside numeric) RETURNS void
LANGUAGE plpgsql AS $body$
BEGIN
    PERFORM set_config('synchronous_commit', 'off', true);
    INSERT INTO equity_points (bot, at, equity, outside) VALUES (_bot, _at, _equity, _outside)
        ON CONFLICT (bot, at) DO UPDATE SET equity = excluded.equity, outside = excluded.outside;
END
$body$;

-- The balances, and the equity at the prices given (of the quote currency: 1) less what came from outside. What was
-- set aside at the opening is not the bots' and counts nothing. It is
-- recorded as a point, unless an asset that is held has no price: half of an account would look like a drawdown.
CREATE FUNCTION measure_equity(_account integer, _bot integer, _at timestamptz, _assets text[], _prices numeric[])
RETURNS TABLE (
    asset text, total numeric, reserved numeric, outside_holds numeric, set_aside numeric, equity numeric
)
LANGUAGE plpgsql AS $body$
DECLARE
    _equity numeric;
    _outside numeric;
BEGIN
    SELECT CASE
            WHEN bool_or(b.total <> b.set_aside AND p.price IS NULL) THEN NULL
            ELSE coalesce(sum((b.total - b.set_aside) * p.price), 0)
        END
        INTO _equity
        FROM unnest(_assets, _prices) AS p (asset, price)
        JOIN balances b ON b.account = _account AND b.asset = p.asset;
    IF _equity IS NOT NULL THEN
        SELECT coalesce(sum(e.amount * p.price), 0) INTO _outside
            FROM entries e JOIN unnest(_assets, _prices) AS p (asset, price) ON p.asset = e.asset
            WHERE e.account = _account AND e.kind IN ('outside', 'reversal');
        _equity := _equity - _outside;
        PERFORM record_equity(_bot, _at, _equity, _outside);
    END IF;
    -- Columns of domain types are not what a function's table promises.
    RETURN QUERY SELECT b.asset::text, b.total::numeric, b.reserved::numeric, b.outside_holds::numeric,
            b.set_aside::numeric, _equity
        FROM balances b WHERE b.account = _account ORDER BY b.asset;
END
$body$;

-- Lost: the last lines of a diary that the logs have too.
CREATE FUNCTION record_events(_bot integer, _events json) RETURNS void
LANGUAGE plpgsql AS $body$
BEGIN
    PERFORM set_config('synchronous_commit', 'off', true);
    INSERT INTO events (bot, digest, name, severity, at, fields)
        SELECT _bot, e.digest, e.name, e.severity, e.at, e.fields
            FROM json_to_recordset(_events) AS e (
                digest text, name text, severity text, at timestamptz, fields jsonb
            )
        ON CONFLICT (digest, bot) DO NOTHING;
END
$body$;
