"""Whatever order, duplication or outage the feed shows: each closed candle once, in order, or said to be missing."""

from __future__ import annotations

import random
from dataclasses import dataclass
from datetime import datetime, timedelta

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from support.collection import BTC, ETH, Collection, collection_settings
from support.coroutines import run_now
from support.messages import START, a_candle
from tradingbot_agents.domain.candle import Candle, candle_problem
from tradingbot_agents.domain.events import CandleGap, CandleRefused, FeedRecovered, FeedStale
from tradingbot_agents.domain.messages import CandleClosed
from tradingbot_agents.exchange import Ambiguous, ExchangeError, RateLimited

BAR = timedelta(minutes=5)
BARS = 16
"""From ``FIRST`` on; later ones are there and good, so that every outage ends."""
FIRST = -6
SYMBOLS = (BTC, ETH)

Fate = st.sampled_from(["good"] * 6 + ["missing", "broken", "late", "very late"])
LATE = {"late": timedelta(seconds=50), "very late": timedelta(minutes=13)}


@dataclass(frozen=True)
class Story:
    fates: dict[str, list[str]]
    outages: list[tuple[float, float, str]]
    """From and to in seconds, and what the exchange answers meanwhile."""
    restarts: list[float]
    stored: dict[str, list[bool]]
    page_limit: int
    settle: float
    takes: float
    poll: float
    seed: int
    forgetful: bool


@st.composite
def stories(draw: st.DrawFn) -> Story:
    seconds = st.integers(0, 3600).map(float)
    return Story(
        fates={symbol: draw(st.lists(Fate, min_size=BARS, max_size=BARS)) for symbol in SYMBOLS},
        outages=draw(
            st.lists(
                st.tuples(seconds, st.integers(1, 900), st.sampled_from(["down", "ambiguous", "limit"])).map(
                    lambda outage: (outage[0], outage[0] + outage[1], outage[2])
                ),
                max_size=3,
            )
        ),
        restarts=sorted(draw(st.lists(seconds, max_size=2))),
        stored={symbol: draw(st.lists(st.booleans(), min_size=-FIRST, max_size=-FIRST)) for symbol in SYMBOLS},
        page_limit=draw(st.sampled_from([1, 3, 500])),
        settle=draw(st.sampled_from([0.0, 3.0])),
        takes=draw(st.sampled_from([0.0, 0.0, 2.0])),
        poll=draw(st.sampled_from([30.0, 300.0])),
        seed=draw(st.integers(0, 2**16)),
        forgetful=draw(st.booleans()),
    )


def universe(story: Story, symbol: str) -> list[tuple[Candle, str]]:
    told = [(a_candle(FIRST + index, symbol), fate) for index, fate in enumerate(story.fates[symbol])]
    return told + [(a_candle(FIRST + BARS + index, symbol), "good") for index in range(20)]


def set_up(story: Story) -> Collection:
    one = Collection(
        START,
        collection_settings(
            symbols=SYMBOLS,
            history=-FIRST,
            settle_delay=timedelta(seconds=story.settle),
            ticker_interval=None,
            poll_interval=timedelta(seconds=story.poll),
        ),
    )
    one.feed.page_limit = story.page_limit
    one.feed.takes = timedelta(seconds=story.takes)
    for symbol in SYMBOLS:
        for candle, fate in universe(story, symbol):
            if fate == "broken":
                one.feed.add([msgspec.structs.replace(candle, low=candle.high + 1)])
            elif fate != "missing":
                one.feed.add([candle])
                one.feed.late_by[(symbol, candle.open_time)] = LATE.get(fate, timedelta(0))
        held = [a_candle(FIRST + i, symbol) for i, there in enumerate(story.stored[symbol]) if there]
        run_now(one.store.write([c for c in held if (c, "good") in universe(story, symbol)]))

    def failing(symbol: str, now: datetime) -> ExchangeError | None:
        at = (now - START).total_seconds()
        for begin, end, kind in story.outages:
            if begin <= at < end:
                if kind == "limit":
                    return RateLimited(timedelta(seconds=min(end - at, 40)))
                return Ambiguous("timed out") if kind == "ambiguous" else ExchangeError("502")
        return None

    rng = random.Random(story.seed)

    def mangle(page: list[Candle]) -> list[Candle]:
        mangled = page + rng.sample(page, len(page) // 2)
        if story.forgetful:
            mangled = [candle for candle in mangled if rng.random() < 0.8]
        mangled += [a_candle(FIRST - 3, BTC), a_candle(500, BTC)]
        rng.shuffle(mangled)
        return mangled

    one.feed.failing = failing
    one.feed.mangle = mangle
    return one


def check_one_life(story: Story, told: list[CandleClosed], gaps: list[CandleGap]) -> None:
    """Of one instance of the agent: from its start to its end."""
    for symbol in SYMBOLS:
        fates = {candle.open_time: (candle, fate) for candle, fate in universe(story, symbol)}
        mine = [message for message in told if message.candle.symbol == symbol]
        opened = [message.candle.open_time for message in mine]
        assert opened == sorted(set(opened)), "once, and in order"
        for message in mine:
            candle, fate = fates[message.candle.open_time]
            assert message.candle == candle
            assert fate not in ("missing", "broken")
            assert message.at >= candle.close_time
            # Fetching takes at most a minute: what is older than that and a bar was never the newest.
            if not message.backfill:
                assert message.at - candle.close_time < BAR + timedelta(minutes=1)
        lost: list[datetime] = []
        for gap in gaps:
            if gap.symbol == symbol:
                inside = [gap.after + BAR * (i + 1) for i in range(gap.missing)]
                assert inside[-1] + BAR == gap.before
                lost += inside
        if opened:
            every = [opened[0] + BAR * i for i in range((opened[-1] - opened[0]) // BAR + 1)]
            assert sorted(opened + lost) == every, "published or said to be missing, never both"
        else:
            assert lost == []
        if not story.forgetful:
            assert all(fates[at][1] != "good" for at in lost), "what the exchange has is not called missing"


@settings(max_examples=250, deadline=None)
@given(stories())
def test_every_closed_candle_is_published_once_in_order_or_said_to_be_missing(story: Story) -> None:
    one = set_up(story)
    told, seen_events = 0, 0

    def end_of_life() -> None:
        nonlocal told, seen_events
        gaps = [event for event in one.sink.events[seen_events:] if isinstance(event, CandleGap)]
        check_one_life(story, one.published[told:], gaps)
        told, seen_events = len(one.published), len(one.sink.events)

    run_now(one.start())
    for at in story.restarts:
        run_now(one.run_until(START + timedelta(seconds=at)))
        end_of_life()
        run_now(one.restart())
    # Past every outage and every late bar, with good ones at the end.
    end = START + timedelta(hours=2, minutes=1)
    run_now(one.run_until(end))
    last_life = one.published[told:]
    end_of_life()
    newest = a_candle(FIRST + BARS + 13).open_time
    for symbol in SYMBOLS:
        opened = [message.candle.open_time for message in last_life if message.candle.symbol == symbol]
        if not story.forgetful:
            assert newest in opened, "it goes on after everything"
            good = {c.open_time for c, fate in universe(story, symbol) if fate == "good" and c.open_time <= newest}
            assert {at for at in good if at >= opened[0]} <= set(opened)
        assert set(opened) <= {c.open_time for c in run_now(one.store.latest(symbol, "5m", 1000))}


@settings(max_examples=100, deadline=None)
@given(stories())
def test_silence_and_its_end_are_said_in_turn_and_broken_bars_once(story: Story) -> None:
    one = set_up(story)
    run_now(one.start())
    run_now(one.run_until(START + timedelta(hours=2)))
    for symbol in SYMBOLS:
        turns = [e for e in one.sink.events if isinstance(e, FeedStale | FeedRecovered) and e.symbol == symbol]
        assert all(isinstance(event, FeedStale) for event in turns[::2])
        assert all(isinstance(event, FeedRecovered) for event in turns[1::2])
        refused = [e.open_time for e in one.sink.events if isinstance(e, CandleRefused) and e.symbol == symbol]
        assert len(refused) == len(set(refused))
    assert all(candle_problem(message.candle) is None for message in one.published)
