"""Messages on real sockets: what arrives, and what is said of those that do not, without an address."""

from __future__ import annotations

import asyncio
import io
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import AsyncExitStack
from datetime import timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest

from support.ledger import connect
from support.receivers import MailReceiver, WebReceiver, mail_receiver, telegram_receiver, web_receiver
from support.reports import HALF_HOUR, NOW, finding, report
from support.silent_server import silent_server
from support.specs import PAPER, bot_of
from tradingbot_agents.clock.virtual import VirtualClock
from tradingbot_agents.domain.events import Severity
from tradingbot_agents.domain.values import BotState
from tradingbot_agents.ledger.port import LedgerUnavailable
from tradingbot_agents.ledger.postgres import PostgresLedger
from tradingbot_agents.reality.check import Status
from tradingbot_agents.reality.news import Message
from tradingbot_agents.reality.report import Report
from tradingbot_agents.runtime import notifying
from tradingbot_agents.runtime.addresses import Address, NoAddress, hidden
from tradingbot_agents.runtime.concluding import Addresses, Conclusion, conclude, past_reports, read_addresses
from tradingbot_agents.runtime.connections import Secret
from tradingbot_agents.runtime.identity import account_key
from tradingbot_agents.runtime.notifying import Delivery, Sender, ping
from tradingbot_agents.telemetry import configure_logging

FAILED = report(finding("orders.fills", Status.FAILED, severity=Severity.SEVERE), finding("feed.age", Status.PASSED))
PASSED = report(finding("orders.fills", Status.PASSED, severity=Severity.SEVERE), at=NOW + HALF_HOUR)
TOKEN = "SECRETSECRETSECRETSECRET"


def bot(*notifications: Mapping[str, Any], **changes: Any) -> Any:
    return bot_of(
        PAPER,
        notifications=[{"urlSecretRef": {"name": "whatever"}, **each} for each in notifications],
        **{f"realityCheck__{name}": value for name, value in changes.items()},
    )


def clock() -> VirtualClock:
    return VirtualClock(NOW)


@pytest.fixture
def log() -> Iterator[io.StringIO]:
    stream = io.StringIO()
    configure_logging("json", "info", stream)
    yield stream
    configure_logging("json", "info")


@pytest.fixture
async def web() -> AsyncIterator[WebReceiver]:
    async with web_receiver() as receiver:
        yield receiver


@pytest.fixture
async def mail() -> AsyncIterator[MailReceiver]:
    async with mail_receiver() as receiver:
        yield receiver


async def told(
    which: Report, address: str, format: str = "json", ledger: PostgresLedger | None = None, **spec: Any
) -> Delivery | None:
    """What became of its message to one receiver; ``None``: there was none."""
    found = await conclude(
        which, bot({"name": "phone", "format": format, **spec}), ledger, given({"phone": Secret(address)}), clock()
    )
    return found.deliveries[0] if found.deliveries else None


def given(notifications: Mapping[str, Address], pinged: Address | None = None) -> Addresses:
    return Addresses(notifications, pinged)


# --- formats


async def test_a_webhook_gets_json_of_the_published_shape(web: WebReceiver) -> None:
    assert await told(FAILED, web.url(f"/hook/{TOKEN}?a=b", "me:pw")) == Delivery("phone", None)
    (got,) = web.got
    assert (got.method, got.path) == ("POST", f"/hook/{TOKEN}?a=b")
    assert got.headers["Content-Type"] == "application/json"
    assert got.headers["Authorization"] == "Basic bWU6cHc="
    message = msgspec.json.decode(got.body, type=Message)
    assert (message.kind, message.severity, message.bot) == ("problem", Severity.SEVERE, "majors")
    assert [each.check for each in message.news] == ["orders.fills"]


async def test_slack_gets_a_text(web: WebReceiver) -> None:
    assert await told(FAILED, web.url(), "slack") == Delivery("phone", None)
    body = msgspec.json.decode(web.got[0].body)
    assert set(body) == {"text"}
    assert body["text"].startswith("*majors: FAILED orders.fills*\nFAILED orders.fills, severe")


async def test_an_email_arrives_as_a_text(mail: MailReceiver) -> None:
    address = f"mailto://127.0.0.1:{mail.port}?from=bot@example.org&to=me@example.org,you@example.org"
    assert await told(FAILED, address, "email") == Delivery("phone", None)
    assert sorted(mail.recipients) == ["me@example.org", "you@example.org"]
    assert mail.got[0]["Subject"] == "majors: FAILED orders.fills"
    assert "do: Mend orders.fills." in mail.got[0].get_content()


async def test_telegram_gets_a_message(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its real address, at the end of a proxy that leads elsewhere."""
    async with telegram_receiver(tmp_path) as (receiver, environment):
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        address = f"tgram://123456789:{TOKEN}/-10012345"
        assert await told(FAILED, address, "telegram") == Delivery("phone", None)
        (got,) = receiver.got
        assert got.path == f"/bot123456789:{TOKEN}/sendMessage"
        body = msgspec.json.decode(got.body)
        assert str(body["chat_id"]) == "-10012345"
        assert "FAILED orders.fills, severe" in body["text"]
        receiver.statuses = [403]
        refused = await told(FAILED, address, "telegram")
        assert refused is not None
        assert refused.why is not None
        assert "403" in refused.why
        assert not {TOKEN, "123456789", "10012345"} & set(refused.why.replace(":", " ").split())


# --- what does not arrive


async def test_what_is_not_sent_is_told_in_the_log_without_its_address(
    web: WebReceiver, mail: MailReceiver, log: io.StringIO, unused_tcp_port_factory: Any
) -> None:
    closed = unused_tcp_port_factory()
    web.statuses = [404]
    mail.refuses = b"550 no such person me-myself@example.org"
    addresses = {
        "answers-404": ("json", web.url(f"/hook/{TOKEN}", "me:password1")),
        "closed": ("slack", f"http://127.0.0.1:{closed}/hook/{TOKEN}"),
        "no-name": ("json", f"http://no-such-host.invalid/{TOKEN}"),
        "no-tls": ("json", f"https://127.0.0.1:{web.port}/{TOKEN}"),
        "wrong-kind": ("telegram", web.url(f"/{TOKEN}")),
        "no-address": ("json", "http://["),
        "bad-token": ("telegram", "tgram://not-a-token/123456"),
        "mail-closed": ("email", f"mailto://127.0.0.1:{closed}?from=bot@example.org&to=me-myself@example.org"),
        "mail-refused": ("email", f"mailto://127.0.0.1:{mail.port}?from=bot@example.org&to=me-myself@example.org"),
    }
    found = await conclude(
        FAILED,
        bot(*({"name": name, "format": kind} for name, (kind, _) in addresses.items())),
        None,
        given({name: Secret(address) for name, (_, address) in addresses.items()}),
        clock(),
    )
    whys = {each.name: each.why or "" for each in found.deliveries}
    assert whys["answers-404"] == "it answers 404"
    assert whys["closed"] == "it can not be reached: Connection refused"
    assert whys["no-name"] == "its host's name is not known"
    assert whys["no-tls"] == "its certificate is not trusted, or it speaks no TLS"
    assert whys["wrong-kind"] == "its address is none that begins with tgram://, as format telegram needs"
    assert whys["no-address"].startswith("its address is none that begins with https:// or http://")
    assert "refused" in whys["mail-closed"].lower()
    assert all(whys.values())
    lines = log.getvalue()
    assert lines.count('"event": "notification_failed"') == len(addresses)
    for part in (TOKEN, "password1", "me-myself", "no-such-host", "127.0.0.1", str(closed), "not-a-token"):
        assert part not in lines, part


async def test_a_receiver_that_says_nothing_holds_nobody_up(
    web: WebReceiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(notifying, "SEND_LIMIT", timedelta(seconds=0.5))
    async with silent_server() as silent:
        addresses = {"silent": Secret(f"http://127.0.0.1:{silent.port}"), "well": Secret(web.url())}
        spec = bot({"name": "silent", "format": "json"}, {"name": "well", "format": "json"})
        found = await conclude(FAILED, spec, None, given(addresses), clock())
    assert {each.name: each.why for each in found.deliveries} == {"silent": "no answer within 0.5 s", "well": None}


async def test_a_mail_that_takes_too_long_is_broken_off(monkeypatch: pytest.MonkeyPatch) -> None:
    # Shorter than a process takes to start: what the mail's server does meanwhile can not come first.
    monkeypatch.setattr(notifying, "SEND_LIMIT", timedelta(seconds=0.02))
    async with silent_server() as silent:
        address = Secret(f"mailto://127.0.0.1:{silent.port}?from=bot@example.org&to=me@example.org")
        found = await conclude(
            FAILED, bot({"name": "mail", "format": "email"}), None, given({"mail": address}), clock()
        )
    assert found.deliveries == (Delivery("mail", "it took longer than 0.02 s"),)


async def test_all_messages_together_have_a_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(notifying, "TELL_LIMIT", timedelta(seconds=0.2))

    async def never(format: str, address: str, message: Message) -> None:
        await asyncio.Event().wait()

    spec = bot({"name": "phone", "format": "json"})
    found = await conclude(FAILED, spec, None, given({"phone": Secret("http://x")}), clock(), send=never)
    assert found.deliveries == (Delivery("phone", "all messages together took 0.2 s"),)


async def test_nobody_is_followed_to_another_address(web: WebReceiver) -> None:
    web.statuses = [302]
    web.headers = {"Location": web.url("/elsewhere")}
    assert await told(FAILED, web.url()) == Delivery("phone", "it answers 302")
    assert len(web.got) == 1


async def test_a_missing_secret_is_told_and_fails_nothing(log: io.StringIO) -> None:
    spec = bot({"name": "phone", "format": "json"}, pingUrlSecretRef={"name": "ping"})
    addresses = read_addresses(spec, {})
    found = await conclude(FAILED, spec, None, addresses, clock())
    (delivery,) = found.deliveries
    assert delivery.why is not None
    assert "set TRADINGBOT_NOTIFICATION_PHONE" in delivery.why
    assert (await conclude(PASSED, spec, None, addresses, clock())).ping is not None
    assert '"event": "ping_failed"' in log.getvalue()


async def test_nothing_a_sender_raises_fails_the_check() -> None:
    async def broken(format: str, address: str, message: Message) -> None:
        raise RuntimeError(f"what about {address}?")

    spec = bot({"name": "phone", "format": "json"})
    found = await conclude(FAILED, spec, None, given({"phone": Secret("http://x-y-z/abc")}), clock(), send=broken)
    assert found.deliveries == (Delivery("phone", "RuntimeError: what about ***?"),)


def test_of_all_addresses_nothing_shows() -> None:
    found = given({"a": Secret(f"http://hook/{TOKEN}"), "b": NoAddress("why")}, Secret("http://ping/uuid"))
    assert {TOKEN, "http://ping/uuid"} <= hidden(found.all)
    assert TOKEN not in repr(found)


# --- the ping


async def test_a_passed_check_pings_and_no_other_does(web: WebReceiver) -> None:
    address = Secret(web.url(f"/ping/{TOKEN}"))
    assert await ping(FAILED, address, clock()) is None
    assert await ping(report(finding("feed.age", Status.UNKNOWN)), address, clock()) is None
    assert not web.got
    assert await ping(PASSED, address, clock()) == Delivery("ping", None)
    (got,) = web.got
    assert (got.method, got.path, got.body) == ("GET", f"/ping/{TOKEN}", b"")


async def test_a_ping_is_tried_again_and_then_told(web: WebReceiver, log: io.StringIO) -> None:
    address = Secret(web.url(f"/ping/{TOKEN}"))
    paused: list[timedelta] = []

    class Clock(VirtualClock):
        async def sleep(self, delay: timedelta) -> None:
            paused.append(delay)

    web.statuses = [503, 503, 200]
    assert await ping(PASSED, address, Clock(NOW)) == Delivery("ping", None)
    assert paused == list(notifying.PING_PAUSES)
    web.statuses = [503]
    assert await ping(PASSED, address, Clock(NOW)) == Delivery("ping", "it answers 503 (3 attempts)")
    assert '"event": "ping_failed"' in log.getvalue()
    assert TOKEN not in log.getvalue()
    wrong = await ping(PASSED, Secret("mailto://me"), Clock(NOW))
    assert wrong == Delivery("ping", "its address is none that begins with https:// or http://")


# --- with the ledger


class Noting:
    """Sends nothing, and fails while it is told to."""

    def __init__(self) -> None:
        self.sent: list[Message] = []
        self.fails = False

    async def __call__(self, format: str, address: str, message: Message) -> None:
        if self.fails:
            raise notifying.Failed("it answers 500")
        self.sent.append(message)


SPEC = bot({"name": "phone", "format": "json"}, onSevere="ReduceOnly")
ADDRESSES = given({"phone": Secret("http://hook")})


async def concluded(
    which: Report, ledger: PostgresLedger | None, send: Noting, at: VirtualClock | None = None
) -> Conclusion:
    return await conclude(which, SPEC, ledger, ADDRESSES, at or VirtualClock(which.at), send=send)


@pytest.fixture
async def ledger(ledger_dsn: str) -> AsyncIterator[PostgresLedger]:
    async with AsyncExitStack() as stack:
        found = await connect(ledger_dsn, SPEC.metadata.name, account_key(SPEC))
        stack.push_async_callback(found.close)
        yield found


@pytest.mark.postgres
async def test_a_severe_failure_is_held_kept_and_told_and_so_is_its_end(ledger: PostgresLedger) -> None:
    send = Noting()
    first = await concluded(FAILED, ledger, send)
    hold = await ledger.hold()
    assert hold is not None
    assert (hold.state, hold.by) == (BotState.REDUCE_ONLY, "reality-check")
    assert first.report.hold == f"held at ReduceOnly: {hold.reason}"
    assert first.number is not None
    again = await concluded(msgspec.structs.replace(FAILED, at=NOW + timedelta(minutes=10)), ledger, send)
    assert (again.report.hold, again.deliveries) == (None, ())
    await concluded(PASSED, ledger, send)
    assert [(each.kind, each.holds) for each in send.sent] == [
        ("problem", (first.report.hold,)),
        ("recovery", ()),
    ]
    assert await ledger.hold() == hold, "a person takes it away"
    past = await past_reports(ledger)
    assert [each.result for each in past.reports] == [Status.PASSED, Status.FAILED, Status.FAILED]
    assert past.reports[2] == first.report
    stored = await ledger.report(first.number)
    assert stored is not None
    assert stored.hold == first.report.hold


@pytest.mark.postgres
async def test_a_message_that_failed_is_sent_at_the_next_run(ledger: PostgresLedger) -> None:
    send = Noting()
    send.fails = True
    found = await concluded(FAILED, ledger, send)
    assert found.deliveries == (Delivery("phone", "it answers 500"),)
    send.fails = False
    await concluded(msgspec.structs.replace(FAILED, at=NOW + HALF_HOUR), ledger, send)
    (message,) = send.sent
    assert message.holds == (found.report.hold,)
    assert message.failing_since == NOW
    await concluded(msgspec.structs.replace(FAILED, at=NOW + 2 * HALF_HOUR), ledger, send)
    assert len(send.sent) == 1


@pytest.mark.postgres
async def test_two_checks_by_hand_tell_once(ledger: PostgresLedger, ledger_dsn: str) -> None:
    other = await connect(ledger_dsn, SPEC.metadata.name, account_key(SPEC))
    entered, leave = asyncio.Event(), asyncio.Event()

    class Slow(Noting):
        async def __call__(self, format: str, address: str, message: Message) -> None:
            entered.set()
            await leave.wait()
            await super().__call__(format, address, message)

    first, second = Slow(), Noting()
    running = asyncio.create_task(concluded(FAILED, ledger, first))
    await entered.wait()
    later = msgspec.structs.replace(FAILED, at=NOW + timedelta(seconds=1))
    assert (await concluded(later, other, second)).deliveries == ()
    leave.set()
    await running
    assert (len(first.sent), len(second.sent)) == (1, 0)
    assert len(await ledger.reports()) == 2
    await other.close()


@pytest.mark.postgres
async def test_without_the_ledger_everything_that_is_wrong_is_told(
    ledger: PostgresLedger, log: io.StringIO, monkeypatch: pytest.MonkeyPatch
) -> None:
    send = Noting()
    assert (await concluded(PASSED, None, send)).deliveries == ()
    await concluded(FAILED, None, send)

    async def away(*_: Any) -> Any:
        raise LedgerUnavailable("the database is away")

    for name in ("hold_by_check", "keep_report", "lease_telling"):
        monkeypatch.setattr(ledger, name, away)
    found = await concluded(FAILED, ledger, send)
    assert len(send.sent) == 2
    assert (found.number, found.report.hold) == (None, None)
    for event in ("reality_hold_not_placed", "reality_report_not_kept", "notifications_not_remembered"):
        assert f'"event": "{event}"' in log.getvalue()


async def test_the_real_sender_is_the_default(web: WebReceiver) -> None:
    await Sender()("json", web.url(), msgspec.json.decode(await _a_body(web), type=Message))
    assert len(web.got) == 2


async def _a_body(web: WebReceiver) -> bytes:
    await told(FAILED, web.url())
    return web.got[0].body
