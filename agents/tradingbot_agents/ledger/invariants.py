"""What must be true of the books at any moment, each as a query that finds what breaks it.

``check`` is for one account, and must see one snapshot (``Database.snapshot``). Some of it is refused by
constraints of the tables already: then a violation means that somebody changed the schema or the rows by hand.
"""

from __future__ import annotations

import msgspec

from tradingbot_agents.ledger.database import Connection
from tradingbot_agents.ledger.port import Invariant


class Rule(msgspec.Struct, frozen=True):
    name: str
    protects: str
    query: str
    """Takes the account's id as ``$1``; each row has one column, a violation in words."""


# Live exit legs and what they may still sell, by position.
_REMAINDERS = """
    SELECT o.bot, o.symbol, sum(greatest(o.amount - o.filled, 0)) AS remainders
    FROM orders o WHERE o.account = $1 AND o.finished_at IS NULL AND o.leg <> 'entry'
    GROUP BY o.bot, o.symbol
"""

RULES = (
    Rule(
        "total_is_sum_of_entries",
        "Money neither appears nor vanishes without a cause.",
        """
        SELECT format('%s: total is %s, its entries sum up to %s', asset,
            coalesce(b.total, 0), coalesce(e.total, 0))
        FROM (SELECT * FROM balances WHERE account = $1) b
        FULL JOIN (SELECT asset, sum(amount) AS total FROM entries WHERE account = $1 GROUP BY asset) e USING (asset)
        WHERE coalesce(b.total, 0) <> coalesce(e.total, 0)
        """,
    ),
    Rule(
        "reserved_is_sum_of_holds",
        "What is reserved is held by an order or a position, and by nothing else.",
        """
        SELECT format('%s: %s is reserved, reservations and exit holds sum up to %s', asset,
            coalesce(b.reserved, 0), coalesce(h.held, 0))
        FROM (SELECT * FROM balances WHERE account = $1) b
        FULL JOIN (
            SELECT asset, sum(held) AS held FROM (
                SELECT reserve_asset AS asset, greatest(reserve_amount - reserve_drawn, 0) AS held
                FROM orders WHERE account = $1 AND finished_at IS NULL AND leg = 'entry'
                UNION ALL
                SELECT split_part(p.symbol, '/', 1), p.exit_hold
                FROM positions p JOIN bots ON bots.id = p.bot WHERE bots.account = $1
            ) one GROUP BY asset
        ) h USING (asset)
        WHERE coalesce(b.reserved, 0) <> coalesce(h.held, 0)
        """,
    ),
    Rule(
        "never_overcommitted",
        "All bots of the account together promise no more than it has, unless bookings have since taken it away.",
        """
        SELECT format('%s: %s of %s is reserved or held outside, though bookings explain a shortfall of only %s',
            asset, reserved + outside_holds, total, shortfall)
        FROM balances WHERE account = $1 AND total - reserved - outside_holds + shortfall < 0
        UNION ALL
        SELECT format('intent %s was approved though only %s was available', cause, available_after + reserve_amount)
        FROM orders WHERE account = $1 AND available_after < 0
        """,
    ),
    Rule(
        "exit_holds_cover_live_exits",
        "A bot sells no more than its own position: live exit legs, their hold, and the position agree.",
        f"""
        SELECT format('%s of %s: the hold is %s, live exit legs may sell %s, the position has %s', p.symbol,
            bots.name, p.exit_hold, coalesce(r.remainders, 0), p.amount)
        FROM positions p JOIN bots ON bots.id = p.bot
        LEFT JOIN ({_REMAINDERS}) r ON r.bot = p.bot AND r.symbol = p.symbol
        WHERE bots.account = $1
            AND p.exit_hold <> least(coalesce(r.remainders, 0), greatest(p.amount, 0))
        UNION ALL
        SELECT format('%s: live exit legs may sell %s of a position that is not there', r.symbol, r.remainders)
        FROM ({_REMAINDERS}) r LEFT JOIN positions p ON r.bot = p.bot AND r.symbol = p.symbol
        WHERE p.symbol IS NULL
        """,
    ),
    Rule(
        "entries_and_reservations_match",
        "Every entry has its money held until it has ended, and nothing else holds any.",
        """
        SELECT format('order %s is an order to %s of leg %s, and reserves %s %s', client_order_id, side, leg,
            coalesce(reserve_amount::text, 'no'), coalesce(reserve_asset, 'money'))
        FROM orders WHERE account = $1
            AND ((leg = 'entry') <> (num_nonnulls(reserve_asset, reserve_amount, reserve_drawn) = 3)
                OR (leg = 'entry') <> (side = 'buy'))
        """,
    ),
    Rule(
        "final_orders_hold_nothing",
        "An order that has ended, and only such a one, has given back what it held.",
        """
        SELECT format('order %s is %s, finished at %s', client_order_id, state,
            coalesce(finished_at::text, 'no time'))
        FROM orders WHERE account = $1
            AND (state IN ('filled', 'cancelled', 'rejected', 'denied', 'not_found')) <> (finished_at IS NOT NULL)
        """,
    ),
    Rule(
        "fills_are_counted_once",
        "Every fill is in the books once: both assets, and its fee.",
        """
        SELECT format('fill %s: %s of %s in the books, %s on the exchange', cause, asset,
            coalesce(e.amount, 0), coalesce(f.amount, 0))
        FROM (
            SELECT cause, asset, kind, sum(amount) AS amount FROM (
                SELECT symbol || ':' || exchange_trade_id AS cause, split_part(symbol, '/', 1) AS asset,
                    'fill' AS kind, CASE side WHEN 'buy' THEN amount ELSE -amount END AS amount
                FROM fills WHERE account = $1
                UNION ALL
                SELECT symbol || ':' || exchange_trade_id, split_part(symbol, '/', 2),
                    'fill', CASE side WHEN 'buy' THEN -price * amount ELSE price * amount END
                FROM fills WHERE account = $1
                UNION ALL
                SELECT symbol || ':' || exchange_trade_id, fee_asset, 'fee', -fee_amount
                FROM fills WHERE account = $1 AND fee_amount <> 0
            ) one GROUP BY cause, asset, kind
        ) f
        FULL JOIN (
            SELECT cause, asset, kind, sum(amount) AS amount FROM entries
            WHERE account = $1 AND kind IN ('fill', 'fee') GROUP BY cause, asset, kind
        ) e USING (cause, asset, kind)
        WHERE coalesce(e.amount, 0) <> coalesce(f.amount, 0)
        """,
    ),
    Rule(
        "orders_match_their_fills",
        "What an order says it filled is what its fills say.",
        """
        SELECT format('order %s: filled %s for %s, its fills sum up to %s for %s', client_order_id,
            coalesce(o.filled, 0), coalesce(o.cost, 0), coalesce(f.filled, 0), coalesce(f.cost, 0))
        FROM (SELECT client_order_id, filled, cost FROM orders WHERE account = $1) o
        FULL JOIN (
            SELECT client_order_id, sum(amount) AS filled, sum(price * amount) AS cost
            FROM fills WHERE account = $1 GROUP BY client_order_id
        ) f USING (client_order_id)
        WHERE coalesce(o.filled, 0) <> coalesce(f.filled, 0) OR coalesce(o.cost, 0) <> coalesce(f.cost, 0)
        """,
    ),
    Rule(
        "positions_match_their_fills",
        "A position is what its bot bought and sold, with what it adopted, and nothing else.",
        """
        SELECT format('%s of bot %s: the position has %s, adoption and fills sum up to %s', symbol, bot,
            coalesce(p.amount, 0), coalesce(p.adopted, 0) + coalesce(f.amount, 0))
        FROM (
            SELECT q.* FROM positions q JOIN bots ON bots.id = q.bot WHERE bots.account = $1
        ) p
        FULL JOIN (
            SELECT bot, symbol, sum(CASE side WHEN 'buy' THEN amount ELSE -amount END
                - CASE WHEN fee_asset = split_part(symbol, '/', 1) THEN fee_amount ELSE 0 END) AS amount
            FROM fills WHERE account = $1 GROUP BY bot, symbol
        ) f USING (bot, symbol)
        WHERE coalesce(p.amount, 0) <> coalesce(p.adopted, 0) + coalesce(f.amount, 0)
        """,
    ),
    Rule(
        "intents_are_decided_once",
        "An intent is approved or refused, and only once.",
        """
        SELECT format('intent %s was refused (%s), and has order %s', d.intent_id, d.reason, o.client_order_id)
        FROM orders o JOIN decisions d ON d.bot = o.bot AND d.intent_id = o.cause
        WHERE o.account = $1 AND o.leg = 'entry'
        UNION ALL
        SELECT format('intent %s has %s entries', cause, count(*))
        FROM orders WHERE account = $1 AND leg = 'entry' GROUP BY bot, cause HAVING count(*) > 1
        """,
    ),
)


async def check(connection: Connection, account: int, most: int | None = None) -> list[Invariant]:
    """With ``most`` violations of each at most, and the word that there are more."""
    return [
        Invariant(
            name=rule.name,
            protects=rule.protects,
            violations=await _violations(connection, rule, account, most),
        )
        for rule in RULES
    ]


async def _violations(connection: Connection, rule: Rule, account: int, most: int | None) -> tuple[str, ...]:
    query = f"SELECT * FROM ({rule.query}) AS violation (told) LIMIT $2"
    found = [row[0] for row in await connection.fetch(query, account, None if most is None else most + 1)]
    return tuple(found if most is None or len(found) <= most else [*found[:most], f"and more than these {most}"])
