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

-- Lock the account, then refuse a stale epoch. Every change of an account's state begins with it.
CREATE FUNCTION enter(_account integer, _bot integer, _role text, _epoch bigint) RETURNS void
LANGUAGE plpgsql AS $body$
BEGIN
    PERFORM FROM accounts WHERE id = _account FOR UPDATE;
    IF _role IS NOT NULL THEN
        PERFORM check_epoch(_bot, _role, _epoch);
    END IF;
END
$body$;

-- port.EntryProposal
CREATE TYPE proposal AS (
    intent_id text, client_order_id text, symbol text, confidence numeric, amount numeric, limit_price numeric,
    reserve_asset text, reserve_amount numeric, stop_price numeric, target_price numeric, indicators text[],
    correlation_id text, at timestamptz, expires_at timestamptz, max_open_positions integer, message json
);

-- Decide a ranked batch of entries, best first: each sees what those before it took. `asked` is a JSON array of
-- `proposal`; the answers have one place for each, in their order. `news` is false for an intent that was decided
-- before, by itself or earlier in the batch: then nothing is done, and the other answers are void.
--
-- Starting a statement costs more than its rows do. So one reads everything, a loop that touches no table decides,
-- and as few as possible write.
CREATE FUNCTION reserve(
    _account integer, _bot integer, _role text, _epoch bigint, asked json,
    OUT news boolean[], OUT reasons text[], OUT details text[], OUT availables numeric[]
)
LANGUAGE plpgsql AS $body$
DECLARE
    proposals proposal[] := ARRAY(SELECT r FROM json_populate_recordset(NULL::proposal, asked) AS r);
    p proposal;
    current bigint;
    hold text;
    busy text[];
    unfinished text[];
    decided text[];
    symbol_of_entry text;
    asset_now text := (proposals[1]).reserve_asset;
    available numeric;
    taken numeric := 0;
    refused boolean := false;
    is_new boolean;
    reason text;
    detail text;
    places bigint[] := '{}';
BEGIN
    news := '{}';
    reasons := '{}';
    details := '{}';
    availables := '{}';
    PERFORM FROM accounts WHERE id = _account FOR UPDATE;
    SELECT
        CASE _role WHEN 'risk' THEN risk_epoch ELSE execution_epoch END,
        CASE WHEN hold_state <> 'Running' THEN format('%s by %s: %s', hold_state, hold_by, hold_reason) END,
        ARRAY(SELECT symbol FROM positions WHERE bot = _bot AND state IN ('open', 'closing')),
        -- Not by its leg: the index of intents, which is of all entries ever, would be tempting while it is empty.
        ARRAY(SELECT symbol FROM orders
            WHERE account = _account AND bot = _bot AND finished_at IS NULL AND side = 'buy'),
        -- Scalar subqueries are looked up by index, one by one; a join would scan everything that was ever decided.
        ARRAY(SELECT r.intent_id FROM unnest(proposals) AS r
            WHERE (SELECT true FROM orders o WHERE o.bot = _bot AND o.cause = r.intent_id AND o.leg = 'entry')
                OR (SELECT true FROM decisions d WHERE d.bot = _bot AND d.intent_id = r.intent_id)),
        (SELECT total - reserved - outside_holds FROM balances WHERE account = _account AND asset = asset_now)
    INTO current, hold, busy, unfinished, decided, available
    FROM bots WHERE id = _bot;
    IF current IS DISTINCT FROM _epoch THEN
        PERFORM check_epoch(_bot, _role, _epoch);
    END IF;
    FOREACH symbol_of_entry IN ARRAY unfinished LOOP
        IF symbol_of_entry <> ALL (busy) THEN
            busy := busy || symbol_of_entry;
        END IF;
    END LOOP;
    FOREACH p IN ARRAY proposals LOOP
        is_new := p.intent_id <> ALL (decided);
        reason := NULL;
        detail := '';
        IF is_new THEN
            decided := decided || p.intent_id;
            IF p.reserve_asset <> asset_now THEN
                UPDATE balances SET reserved = reserved + taken WHERE account = _account AND asset = asset_now;
                taken := 0;
                asset_now := p.reserve_asset;
                available := (
                    SELECT total - reserved - outside_holds FROM balances
                        WHERE account = _account AND asset = asset_now
                );
            END IF;
            available := coalesce(available, 0);
            IF hold IS NOT NULL THEN
                reason := 'not_tradable_state';
                detail := hold;
            ELSIF p.symbol = ANY (busy) THEN
                reason := 'position_already_open';
                detail := format('%s has a position or an unfinished entry', p.symbol);
            ELSIF cardinality(busy) >= p.max_open_positions THEN
                reason := 'max_open_positions';
                detail := format('%s of at most %s positions are open', cardinality(busy), p.max_open_positions);
            ELSIF p.reserve_amount > available THEN
                reason := 'insufficient_available_balance';
                detail := format('%s %s are needed, %s are available',
                    trim_scale(p.reserve_amount), asset_now, trim_scale(available));
            ELSE
                available := available - p.reserve_amount;
                taken := taken + p.reserve_amount;
                busy := busy || p.symbol;
            END IF;
            refused := refused OR reason IS NOT NULL;
        END IF;
        news := news || is_new;
        reasons := reasons || reason;
        details := details || detail;
        availables := availables || available;
        places := places || nextval('numbers');
    END LOOP;
    IF taken > 0 THEN
        UPDATE balances SET reserved = reserved + taken WHERE account = _account AND asset = asset_now;
    END IF;
    WITH approved AS MATERIALIZED (
        SELECT * FROM ROWS FROM (
            unnest(proposals), unnest(news), unnest(reasons), unnest(availables), unnest(places)
        ) AS r (
            intent_id, client_order_id, symbol, confidence, amount, limit_price, reserve_asset, reserve_amount,
            stop_price, target_price, indicators, correlation_id, at, expires_at, max_open_positions, message,
            is_new, reason, left_after, place
        ) WHERE r.is_new AND r.reason IS NULL
    ), ordered AS (
        INSERT INTO orders (
            number, account, bot, client_order_id, symbol, side, leg, type, time_in_force, amount, limit_price,
            state, cause, attempt, correlation_id, created_at, expires_at, protect_stop, protect_target, indicators,
            reserve_asset, reserve_amount, reserve_drawn, confidence, available_after
        )
        SELECT place, _account, _bot, client_order_id, symbol, 'buy', 'entry', 'limit', 'ioc', amount, limit_price,
            'approved', intent_id, 0, correlation_id, at, expires_at, stop_price, target_price, indicators,
            reserve_asset, reserve_amount, 0, confidence, left_after
        FROM approved
    )
    INSERT INTO outbox (bot, role, message) SELECT _bot, 'risk', message FROM approved;
    IF refused THEN
        INSERT INTO decisions (
            number, bot, intent_id, symbol, side, reason, detail, confidence, available_after, correlation_id, at
        )
        SELECT r.place, _bot, r.intent_id, r.symbol, 'buy', r.reason, r.detail, r.confidence, r.left_after, r.correlation_id,
            r.at
        FROM ROWS FROM (
            unnest(proposals), unnest(news), unnest(reasons), unnest(details), unnest(availables), unnest(places)
        ) AS r (
            intent_id, client_order_id, symbol, confidence, amount, limit_price, reserve_asset, reserve_amount,
            stop_price, target_price, indicators, correlation_id, at, expires_at, max_open_positions, message,
            is_new, reason, detail, left_after, place
        ) WHERE r.is_new AND r.reason IS NOT NULL;
    END IF;
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
        intent_id text, symbol text, side text, reason text, detail text, confidence numeric, correlation_id text,
        at timestamptz
    ) LOOP
        INSERT INTO decisions (bot, intent_id, symbol, side, reason, detail, confidence, correlation_id, at)
            SELECT _bot, r.intent_id, r.symbol, r.side, r.reason, r.detail, r.confidence, r.correlation_id, r.at
                WHERE NOT EXISTS (
                    SELECT FROM orders o WHERE o.bot = _bot AND o.cause = r.intent_id AND o.leg = 'entry'
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
