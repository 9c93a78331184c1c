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

-- Decide a ranked batch of entries, best first: each sees what those before it took. One row for each proposal,
-- in their order. `_proposals` is the JSON of port.EntryProposal.
CREATE FUNCTION reserve(_account integer, _bot integer, _role text, _epoch bigint, _proposals json)
RETURNS TABLE (
    intent_id text, symbol text, side text, outcome text, reason text, detail text, confidence numeric,
    client_order_id text, reserved numeric, available_after numeric, at timestamptz, new boolean
)
LANGUAGE plpgsql AS $body$
#variable_conflict use_column
DECLARE
    held_by_hold text;
    busy text[];
    asset_now text;
    available numeric := 0;
    taken numeric := 0;
    p record;
BEGIN
    PERFORM enter(_account, _bot, _role, _epoch);
    SELECT CASE WHEN hold_state <> 'Running' THEN format('%s by %s: %s', hold_state, hold_by, hold_reason) END
        INTO held_by_hold FROM bots WHERE id = _bot;
    busy := ARRAY(
        SELECT o.symbol FROM orders o
            WHERE o.account = _account AND o.bot = _bot AND o.finished_at IS NULL AND o.leg = 'entry'
        UNION
        SELECT q.symbol FROM positions q WHERE q.bot = _bot AND q.state IN ('open', 'closing')
    );
    FOR p IN SELECT * FROM json_to_recordset(_proposals) AS (
        intent_id text, client_order_id text, symbol text, confidence numeric, amount numeric, limit_price numeric,
        reserve_asset text, reserve_amount numeric, stop_price numeric, target_price numeric, indicators text[],
        correlation_id text, at timestamptz, expires_at timestamptz, max_open_positions integer, message json
    ) LOOP
        SELECT d.symbol, d.side, d.outcome, d.reason, d.detail, d.confidence, d.client_order_id, d.reserved,
                d.available_after, d.at
            INTO symbol, side, outcome, reason, detail, confidence, client_order_id, reserved, available_after, at
            FROM decisions d WHERE d.bot = _bot AND d.intent_id = p.intent_id;
        new := NOT FOUND;
        intent_id := p.intent_id;
        IF NOT new THEN
            RETURN NEXT;
            CONTINUE;
        END IF;
        IF p.reserve_asset IS DISTINCT FROM asset_now THEN
            IF taken > 0 THEN
                UPDATE balances b SET reserved = b.reserved + taken WHERE b.account = _account AND b.asset = asset_now;
                taken := 0;
            END IF;
            asset_now := p.reserve_asset;
            available := coalesce((
                SELECT b.total - b.reserved - b.outside_holds FROM balances b
                    WHERE b.account = _account AND b.asset = asset_now
            ), 0);
        END IF;
        symbol := p.symbol;
        side := 'buy';
        confidence := p.confidence;
        at := p.at;
        reason := NULL;
        IF held_by_hold IS NOT NULL THEN
            reason := 'not_tradable_state';
            detail := held_by_hold;
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
        END IF;
        IF reason IS NULL THEN
            outcome := 'approved';
            detail := '';
            client_order_id := p.client_order_id;
            reserved := p.reserve_amount;
            available := available - reserved;
            taken := taken + reserved;
            busy := busy || p.symbol;
            INSERT INTO orders (
                account, bot, client_order_id, symbol, side, leg, type, time_in_force, amount, limit_price, state,
                cause, attempt, correlation_id, created_at, expires_at, protect_stop, protect_target, indicators,
                reserve_asset, reserve_amount, reserve_drawn, reservation
            ) VALUES (
                _account, _bot, p.client_order_id, p.symbol, 'buy', 'entry', 'limit', 'ioc', p.amount, p.limit_price,
                'approved', p.intent_id, 0, p.correlation_id, p.at, p.expires_at, p.stop_price, p.target_price,
                p.indicators, p.reserve_asset, p.reserve_amount, 0, 'held'
            );
            INSERT INTO outbox (bot, role, message) VALUES (_bot, 'risk', p.message);
        ELSE
            outcome := 'rejected';
            client_order_id := NULL;
            reserved := NULL;
        END IF;
        available_after := available;
        INSERT INTO decisions (
            bot, intent_id, symbol, side, outcome, reason, detail, confidence, client_order_id, reserved,
            available_after, correlation_id, at
        ) VALUES (
            _bot, p.intent_id, symbol, side, outcome, reason, detail, confidence, client_order_id, reserved,
            available_after, p.correlation_id, at
        );
        RETURN NEXT;
    END LOOP;
    IF taken > 0 THEN
        UPDATE balances b SET reserved = b.reserved + taken WHERE b.account = _account AND b.asset = asset_now;
    END IF;
END
$body$;

-- Record refusals; an intent that was decided before keeps its decision. `_refusals` is the JSON of port.Refusal.
CREATE FUNCTION refuse(_account integer, _bot integer, _role text, _epoch bigint, _refusals json)
RETURNS TABLE (
    intent_id text, symbol text, side text, outcome text, reason text, detail text, confidence numeric,
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
        INSERT INTO decisions (bot, intent_id, symbol, side, outcome, reason, detail, confidence, correlation_id, at)
            VALUES (_bot, r.intent_id, r.symbol, r.side, 'rejected', r.reason, r.detail, r.confidence,
                r.correlation_id, r.at)
            ON CONFLICT (bot, intent_id) DO NOTHING;
        new := FOUND;
        SELECT d.intent_id, d.symbol, d.side, d.outcome, d.reason, d.detail, d.confidence, d.client_order_id,
                d.reserved, d.available_after, d.at
            INTO intent_id, symbol, side, outcome, reason, detail, confidence, client_order_id, reserved,
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
