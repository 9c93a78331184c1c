"""Money that came or went and that no order of ours explains."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal, InvalidOperation

from tradingbot_agents.domain.events import Severity
from tradingbot_agents.domain.spelling import percent
from tradingbot_agents.domain.values import ONE, ZERO
from tradingbot_agents.reality.check import Check, Judgement, judged
from tradingbot_agents.reality.evidence import Evidence, Heard, MarketEvidence, Source, known
from tradingbot_agents.reality.happenings import counting

MUCH = Decimal("0.01")
"""Of what the account is worth. Interest, dust and an exchange's rounding make less."""


def judge(evidence: Evidence) -> Judgement:
    booked = counting(evidence, "outside_movement_booked")
    reversed_ = counting(evidence, "outside_movement_reversed")
    breaches: list[str] = []
    doubts: list[str] = []
    told: list[str] = []
    worth = _worth(evidence)
    for asset in sorted({each.key[0] for each in booked}):
        amounts = _amounts(booked, asset)
        taken_back = _amounts(reversed_, asset)
        if amounts is None or taken_back is None:
            doubts.append(f"{asset}: there were too many movements to tell all their amounts")
            continue
        for amount in taken_back:
            if -amount in amounts:
                amounts.remove(-amount)
        if not amounts:
            continue
        moved = sum((abs(amount) for amount in amounts), ZERO)
        # Both ways are said: what came and went again is a movement as well.
        words = f"{asset}: {sum(amounts, ZERO):+f} in {len(amounts)} movements from outside"
        price = _price(evidence, asset)
        if price is None:
            doubts.append(f"{words}, and nobody says what {asset} is worth")
        elif worth is None:
            doubts.append(f"{words}, and nobody says what the account is worth")
        elif moved * price > MUCH * worth:
            breaches.append(f"{words}, {percent(moved * price / worth)} of what the account is worth")
        else:
            told.append(words)
    told = told or ["nothing came from outside, or went there"]
    return judged(breaches, "; ".join([*told, *_since_the_opening(known(evidence.ledger).outside)]), doubts=doubts)


def _amounts(heard: list[Heard], asset: str) -> list[Decimal] | None:
    """Of each movement of an asset; ``None``: some were counted together."""
    found: list[Decimal] = []
    for each in heard:
        if each.key[0] != asset:
            continue
        try:
            found += [Decimal(each.key[1])] * each.count
        except InvalidOperation:
            return None
    return found


def _worth(evidence: Evidence) -> Decimal | None:
    """In quote currency, whoever brought it: at its highest in the window, since what was withdrawn is gone from the
    newest."""
    return max((point.gross for point in known(evidence.ledger).equity if point.gross > ZERO), default=None)


def _price(evidence: Evidence, asset: str) -> Decimal | None:
    quote = evidence.settings.quote
    if asset == quote:
        return ONE
    bars = evidence.market.candles.get(f"{asset}/{quote}", ()) if isinstance(evidence.market, MarketEvidence) else ()
    return bars[-1].close if bars else None


def _since_the_opening(outside: Mapping[str, Decimal]) -> list[str]:
    sums = ", ".join(f"{asset} {amount:+f}" for asset, amount in sorted(outside.items()) if amount)
    return [f"in all, since the account was opened: {sums}"] if sums else []


CHECK = Check(
    id="accounting.outside",
    asks="Did no more come or go from outside than anybody need look at?",
    protects="A withdrawal that nobody of yours made, and trades by somebody else who has a key.",
    needs=(Source.LEDGER,),
    severity=Severity.WARNING,
    remedy=(
        "You know it (a deposit, a withdrawal, a trade by hand): good, and it is told until it lies before the"
        " window. You do not: somebody else has a key of the account. Revoke it, and look at the exchange's history"
        " from before the time of the event (outside_movement_booked). It counts neither as profit nor as drawdown."
    ),
    judge=judge,
)
