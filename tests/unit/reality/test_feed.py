"""The feed: how late it is, what is missing, and what fell silent."""

from __future__ import annotations

from datetime import timedelta

import msgspec

from support.asking import ask, only
from support.evidence import (
    BITCOIN,
    ETHER,
    NOW,
    SINCE,
    bar,
    bars,
    candles,
    heard,
    ledger,
    logs,
    market,
    rules,
    settings,
)
from tradingbot_agents.bus.topology import DATA_COLLECTION
from tradingbot_agents.domain.candle import Candle
from tradingbot_agents.reality.check import Status
from tradingbot_agents.reality.evidence import CandleEvidence, Heard, Logs, Missing

PASSED, FAILED, UNKNOWN = Status.PASSED, Status.FAILED, Status.UNKNOWN
MINUTE = timedelta(minutes=1)


def stored(*bitcoin: Candle) -> CandleEvidence:
    return candles(candles={BITCOIN: list(bitcoin), ETHER: bars(ETHER)})


class TestAge:
    def test_a_store_that_is_behind(self) -> None:
        assert only("feed.age", candles=stored(*bars()[:-2])) == (
            FAILED,
            "BTC/USDT: the newest bar in the store closed at 2026-03-01 11:50:00Z, 10 min before the exchange's",
        )

    def test_a_store_that_has_nothing(self) -> None:
        assert only("feed.age", candles=stored()) == (
            FAILED,
            "BTC/USDT: the candle store has none, the exchange has one of 2026-03-01 12:00:00Z",
        )

    def test_one_of_the_future_does_not_hide_it(self) -> None:
        assert ask("feed.age", candles=stored(*bars()[:-2], bar(-5)))[0] is FAILED

    def test_where_the_exchange_has_none_newer_it_is_no_fault(self) -> None:
        quiet = {BITCOIN: bars()[:-5], ETHER: bars(ETHER)}
        found = only("feed.age", candles=candles(candles=quiet), market=market(candles=quiet))
        assert found == (PASSED, "the store has the newest bar of every symbol, the oldest is 26 min old")

    def test_a_bar_that_has_just_closed_need_not_be_there(self) -> None:
        just = bar().close_time + timedelta(seconds=49)
        late = bar().close_time + timedelta(seconds=51)
        behind = stored(*bars()[:-1])
        assert ask("feed.age", candles=behind, market=market(read_at=just))[0] is PASSED
        assert ask("feed.age", candles=behind, market=market(read_at=late))[0] is FAILED

    def test_what_the_exchange_does_not_tell_is_not_known(self) -> None:
        told = market(candles={ETHER: bars(ETHER)})
        assert only("feed.age", market=told) == (UNKNOWN, "BTC/USDT: the exchange gave no bar to compare with")
        halted = market(candles={ETHER: bars(ETHER)}, rules={BITCOIN: rules(active=False)})
        assert ask("feed.age", market=halted)[0] is PASSED


class TestGaps:
    def test_bars_that_are_missing_are_told_together(self) -> None:
        ours = [each for each in bars() if each not in (bar(7), bar(3), bar(4))]
        status, told = ask("feed.gaps", candles=stored(*ours))
        assert status is FAILED
        assert told == (
            "BTC/USDT: the bar of 2026-03-01 11:20:00Z is missing",
            "BTC/USDT: 2 bars are missing, from 2026-03-01 11:35:00Z to 2026-03-01 11:40:00Z",
        )

    def test_the_ends_are_no_gaps(self) -> None:
        assert ask("feed.gaps", candles=stored(*bars()[3:-2]))[0] is PASSED
        assert ask("feed.gaps", candles=stored())[0] is PASSED

    def test_what_the_exchange_has_not_is_no_gap_and_told(self) -> None:
        ours = [each for each in bars() if each != bar(4)]
        gap = heard("candle_gap", BITCOIN, agent=DATA_COLLECTION)
        found = only(
            "feed.gaps",
            candles=stored(*ours),
            market=market(candles={BITCOIN: ours, ETHER: bars(ETHER)}),
            logs=logs(DATA_COLLECTION, heard=(gap,)),
        )
        assert found == (
            PASSED,
            "15 bars without a gap; once the exchange itself had none to fill a gap with",
        )

    def test_dropped_candles_fail(self) -> None:
        dropped = heard("candles_dropped", agent=DATA_COLLECTION, candles=12)
        assert only("feed.gaps", logs=logs(DATA_COLLECTION, heard=(dropped,))) == (
            FAILED,
            "data-collection dropped candles for InfluxDB (once, at 2026-03-01 11:56:00Z), at last 12",
        )


class TestStreams:
    def told(self, *events: Heard, feed: str = "websocket") -> dict[str, object]:
        return {"settings": settings(feed=feed), "logs": logs(DATA_COLLECTION, heard=events)}

    def lost(self, back: int = 10) -> Heard:
        return heard(
            "stream_lost", BITCOIN, "ticker", agent=DATA_COLLECTION, at=NOW - back * MINUTE, why="nothing for 30 s"
        )

    def back(self, back: int, stream: str = "ticker") -> Heard:
        return heard("stream_recovered", BITCOIN, stream, agent=DATA_COLLECTION, at=NOW - back * MINUTE)

    def test_one_that_did_not_come_back(self) -> None:
        silent = (
            FAILED,
            "BTC/USDT: the stream of ticker is silent since 2026-03-01 11:51:00Z: nothing for 30 s",
        )
        assert only("feed.streams", **self.told(self.lost())) == silent
        assert only("feed.streams", **self.told(self.back(12), self.lost())) == silent
        assert only("feed.streams", **self.told(self.lost(), self.back(5, "candles"))) == silent

    def test_one_that_did(self) -> None:
        found = only("feed.streams", **self.told(self.lost(), self.back(9)))
        assert found == (PASSED, "no feed is silent; once one came back")

    def test_streams_are_not_asked_about_with_a_feed_by_rest(self) -> None:
        assert ask("feed.streams", **self.told(self.lost(), feed="rest"))[0] is PASSED

    def test_a_feed_that_is_stale(self) -> None:
        stale = heard("feed_stale", BITCOIN, agent=DATA_COLLECTION, error="418 banned")
        found = only("feed.streams", **self.told(stale, feed="rest"))
        assert found == (FAILED, "BTC/USDT: its feed is silent since 2026-03-01 11:56:00Z: 418 banned")
        halted = {**self.told(stale), "market": market(rules={BITCOIN: rules(active=False)})}
        assert ask("feed.streams", **halted)[0] is PASSED
        recovered = heard("feed_recovered", BITCOIN, agent=DATA_COLLECTION, at=NOW - MINUTE)
        assert ask("feed.streams", **self.told(stale, recovered))[0] is PASSED

    def test_a_log_that_does_not_reach_back_may_have_lost_it(self) -> None:
        short = logs(DATA_COLLECTION, complete=False, begins=SINCE + 20 * MINUTE)
        assert only("feed.streams", logs=short) == (
            UNKNOWN,
            "data-collection: its log was read from 2026-03-01 11:46:00Z on, and what counts begins at"
            " 2026-03-01 11:26:00Z: what it said before is not known",
        )
        empty = logs(DATA_COLLECTION, complete=False, begins=None, ends=None, lacks="the API server broke off")
        assert only("feed.streams", logs=empty)[1] == (
            "data-collection: its log has no line, and what counts begins at 2026-03-01 11:26:00Z: what it said"
            " before is not known (the API server broke off)"
        )
        away = Logs(agents={**logs().agents, DATA_COLLECTION: Missing("403 Forbidden")})
        assert only("feed.streams", logs=away) == (UNKNOWN, "data-collection: 403 Forbidden")
        assert only("feed.streams", logs=Logs(agents={})) == (UNKNOWN, "data-collection: there is no log of it")

    def test_what_is_written_in_the_ledger_needs_no_log(self) -> None:
        written = ledger(
            revisions={DATA_COLLECTION: SINCE}, heard=(msgspec.structs.replace(self.lost(), name="feed_stale"),)
        )
        found = ask("feed.streams", ledger=written, logs=Logs(agents={}))
        assert found[0] is FAILED
