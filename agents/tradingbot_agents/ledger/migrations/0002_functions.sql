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

-- Decide a ranked batch of entries, best first: each sees what those before it took. `_proposals` is a JSON array of
-- `proposal`; the answer has one row for each, in their order. `new` is false for an intent that was decided before,
-- by itself or earlier in the batch: then nothing is done, and the rest of the row is void.
--
-- Starting a statement costs more than its rows do. So one reads everything, a loop that touches no table decides,
-- and one writes everything.
CREATE FUNCTION reserve(_account integer, _bot integer, _role text, _epoch bigint, _proposals json)
RETURNS TABLE (new boolean, reason text, detail text, available_after numeric)
LANGUAGE plpgsql AS $body$
DECLARE
    proposals proposal[] := ARRAY(SELECT r FROM json_populate_recordset(NULL::proposal, _proposals) AS r);
    p proposal;
    current bigint;
    hold text;
    held text[];
    busy text[];
    symbol_busy text;
    decided text[];
    asset_now text := (proposals[1]).reserve_asset;
    available_now numeric;
    taken numeric := 0;
    news boolean[] := '{}';
    reasons text[] := '{}';
    details text[] := '{}';
    availables numeric[] := '{}';
BEGIN
    PERFORM FROM accounts WHERE id = _account FOR UPDATE;
    SELECT
        CASE _role WHEN 'risk' THEN risk_epoch ELSE execution_epoch END,
        CASE WHEN hold_state <> 'Running' THEN format('%s by %s: %s', hold_state, hold_by, hold_reason) END,
        ARRAY(SELECT symbol FROM positions WHERE bot = _bot AND state IN ('open', 'closing')),
        ARRAY(SELECT symbol FROM orders
            WHERE account = _account AND bot = _bot AND finished_at IS NULL AND leg = 'entry'),
        -- A scalar subquery is looked up by index for each proposal; a join might scan what was never analysed.
        ARRAY(SELECT r.intent_id FROM unnest(proposals) AS r
            WHERE (SELECT true FROM decisions d WHERE d.bot = _bot AND d.intent_id = r.intent_id)),
        (SELECT total - reserved - outside_holds FROM balances WHERE account = _account AND asset = asset_now)
    INTO current, hold, held, busy, decided, available_now
    FROM bots WHERE id = _bot;
    IF current IS DISTINCT FROM _epoch THEN
        PERFORM check_epoch(_bot, _role, _epoch);
    END IF;
    FOREACH symbol_busy IN ARRAY busy LOOP
        IF symbol_busy <> ALL (held) THEN
            held := held || symbol_busy;
        END IF;
    END LOOP;
    FOREACH p IN ARRAY proposals LOOP
        new := p.intent_id <> ALL (decided);
        reason := NULL;
        detail := '';
        IF new THEN
            decided := decided || p.intent_id;
            IF p.reserve_asset <> asset_now THEN
                IF taken > 0 THEN
                    UPDATE balances SET reserved = reserved + taken WHERE account = _account AND asset = asset_now;
                    taken := 0;
                END IF;
                asset_now := p.reserve_asset;
                available_now := (
                    SELECT total - reserved - outside_holds FROM balances
                        WHERE account = _account AND asset = asset_now
                );
            END IF;
            available_now := coalesce(available_now, 0);
            IF hold IS NOT NULL THEN
                reason := 'not_tradable_state';
                detail := hold;
            ELSIF p.symbol = ANY (held) THEN
                reason := 'position_already_open';
                detail := format('%s has a position or an unfinished entry', p.symbol);
            ELSIF cardinality(held) >= p.max_open_positions THEN
                reason := 'max_open_positions';
                detail := format('%s of at most %s positions are open', cardinality(held), p.max_open_positions);
            ELSIF p.reserve_amount > available_now THEN
                reason := 'insufficient_available_balance';
                detail := format('%s %s are needed, %s are available',
                    trim_scale(p.reserve_amount), asset_now, trim_scale(available_now));
            ELSE
                available_now := available_now - p.reserve_amount;
                taken := taken + p.reserve_amount;
                held := held || p.symbol;
            END IF;
        END IF;
        available_after := available_now;
        news := news || new;
        reasons := reasons || reason;
        details := details || detail;
        availables := availables || available_after;
        RETURN NEXT;
    END LOOP;
    WITH decision AS MATERIALIZED (
        SELECT * FROM ROWS FROM (
            unnest(proposals), unnest(news), unnest(reasons), unnest(details), unnest(availables)
        ) AS r (
            intent_id, client_order_id, symbol, confidence, amount, limit_price, reserve_asset, reserve_amount,
            stop_price, target_price, indicators, correlation_id, at, expires_at, max_open_positions, message,
            new, reason, detail, available_after
        ) WHERE r.new
    ), balance AS (
        UPDATE balances SET reserved = reserved + taken
        WHERE account = _account AND asset = asset_now AND taken > 0
    ), recorded AS (
        INSERT INTO decisions (
            bot, intent_id, symbol, side, reason, detail, confidence, client_order_id, reserved, available_after,
            correlation_id, at
        )
        SELECT _bot, d.intent_id, d.symbol, 'buy', d.reason, d.detail, d.confidence,
            CASE WHEN d.reason IS NULL THEN d.client_order_id END,
            CASE WHEN d.reason IS NULL THEN d.reserve_amount END, d.available_after, d.correlation_id, d.at
        FROM decision d
    ), ordered AS (
        INSERT INTO orders (
            account, bot, client_order_id, symbol, side, leg, type, time_in_force, amount, limit_price, state,
            cause, attempt, correlation_id, created_at, expires_at, protect_stop, protect_target, indicators,
            reserve_asset, reserve_amount, reserve_drawn
        )
        SELECT _account, _bot, d.client_order_id, d.symbol, 'buy', 'entry', 'limit', 'ioc', d.amount, d.limit_price,
            'approved', d.intent_id, 0, d.correlation_id, d.at, d.expires_at, d.stop_price, d.target_price,
            d.indicators, d.reserve_asset, d.reserve_amount, 0
        FROM decision d WHERE d.reason IS NULL
    )
    INSERT INTO outbox (bot, role, message) SELECT _bot, 'risk', d.message FROM decision d WHERE d.reason IS NULL;
END
$body$;

-- Record refusals; an intent that was decided before keeps its decision. `_refusals` is the JSON of port.Refusal.
CREATE FUNCTION refuse(_account integer, _bot integer, _role text, _epoch bigint, _refusals json)
RETURNS TABLE (
    intent_id text, symbol text, side text, reason text, detail text, confidence numeric,
    client_order_id text, reserved numeric, available_after numeric, at timestamptz, new boolean
)
LANGUAGE plpgsql AS $body$
#variable_conflict use_column
DECLARE
    r record;
BEGIN
    PERFORM enter(_account, _bot, _role, _epoch);
    FOR r IN SELECT * FROM json_to_recordset(_refusals) AS (
        intent_id text, symbol text, side text, reason text, detail text, confidence numeric, correlation_id text,
        at timestamptz
    ) LOOP
        INSERT INTO decisions (bot, intent_id, symbol, side, reason, detail, confidence, correlation_id, at)
            VALUES (_bot, r.intent_id, r.symbol, r.side, r.reason, r.detail, r.confidence,
                r.correlation_id, r.at)
            ON CONFLICT (bot, intent_id) DO NOTHING;
        new := FOUND;
        SELECT d.intent_id, d.symbol, d.side, d.reason, d.detail, d.confidence, d.client_order_id,
                d.reserved, d.available_after, d.at
            INTO intent_id, symbol, side, reason, detail, confidence, client_order_id, reserved,
                available_after, at
            FROM decisions d WHERE d.bot = _bot AND d.intent_id = r.intent_id;
        RETURN NEXT;
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
CREATE FUNCTION record_equity(_bot integer, _at timestamptz, _equity numeric) RETURNS void
LANGUAGE plpgsql AS $body$
BEGIN
    PERFORM set_config('synchronous_commit', 'off', true);
    INSERT INTO equity_points (bot, at, equity) VALUES (_bot, _at, _equity)
        ON CONFLICT (bot, at) DO UPDATE SET equity = excluded.equity;
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
        ON CONFLICT (bot, digest) DO NOTHING;
END
$body$;
