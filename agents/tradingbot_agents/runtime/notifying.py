"""People are told what the reality check found: by webhook, Slack, Telegram and e-mail; and its ping is sent.

Nothing here fails a check. What can not be sent is told in the log, without the address, which is a secret, and is
made again at the next run. Each message has a time limit, and all of them together have one.

The webhooks are a request each and are made here; Telegram and e-mail are Apprise's, in a process of its own.
"""

from __future__ import annotations

import asyncio
import errno
import os
import sys
from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Literal, Protocol
from uuid import uuid4

import msgspec

from tradingbot_agents.clock import Clock
from tradingbot_agents.domain.events import Severity
from tradingbot_agents.ledger.port import LedgerError
from tradingbot_agents.ledger.postgres import PostgresLedger
from tradingbot_agents.ledger.reports import Lease
from tradingbot_agents.reality import news
from tradingbot_agents.reality.check import Status
from tradingbot_agents.reality.news import Memory, Message, Outcome, Receiver
from tradingbot_agents.reality.report import Report
from tradingbot_agents.runtime import apprise_process
from tradingbot_agents.runtime.addresses import Address, NoAddress, scrubbed, speaks
from tradingbot_agents.telemetry import get_logger
from tradingbot_api import Notification

SEND_LIMIT = timedelta(seconds=15)
"""For one message."""
TELL_LIMIT = timedelta(seconds=60)
"""For all of a run."""

PING_PAUSES = (timedelta(seconds=1), timedelta(seconds=3))
"""Before the second and the third attempt."""

Format = Literal["json", "slack", "telegram", "email"]

_SCHEMES: Mapping[Format, tuple[str, ...]] = {
    "json": ("https", "http"),
    "slack": ("https", "http"),
    "telegram": ("tgram",),
    "email": ("mailtos", "mailto"),
}

_KINDS: Mapping[Severity, Literal["failure", "warning", "success"]] = {
    Severity.INFO: "success",
    Severity.WARNING: "warning",
    Severity.SEVERE: "failure",
}

_LEASE_MARGIN = timedelta(seconds=30)


class Failed(Exception):
    """It was not sent. The text says why, and holds no part of the address."""


class Delivery(msgspec.Struct, frozen=True):
    """What became of one message."""

    name: str
    """Of the notification."""
    why: str | None
    """Why it was not sent; ``None``: it was."""


class Send(Protocol):
    async def __call__(self, format: Format, address: str, message: Message) -> None:
        """Raises ``Failed``."""
        ...


def receiver(notification: Notification) -> Receiver:
    return Receiver(
        name=notification.name,
        minimum=Severity(notification.minimum_severity),
        interval=notification.interval,
    )


async def tell(
    report: Report,
    notifications: Sequence[Notification],
    addresses: Mapping[str, Address],
    ledger: PostgresLedger | None,
    clock: Clock,
    *,
    send: Send | None = None,
) -> list[Delivery]:
    """Tell everybody who is to be told of ``report``, and write down in ``ledger`` who knows what.

    ``addresses`` are by the notification's name. Without the ledger (``None``, or away), everything that is wrong is
    told. While another check of the bot tells people, nothing is done: it tells, and the next one tells the rest.
    """
    if not notifications:
        return []
    lease, memories = None, dict[str, Memory]()
    if ledger is not None:
        now = clock.now()
        try:
            lease = await ledger.lease_telling(uuid4().hex, now, now + TELL_LIMIT + _LEASE_MARGIN)
        except LedgerError as error:
            get_logger().warning("notifications_not_remembered", why=str(error))
        else:
            if lease is None:
                get_logger().info("notifications_left_to_another_check")
                return []
            memories = news.memories_from_json(lease.told)
    now = clock.now()
    outcomes = {
        each.name: news.decide(report, receiver(each), memories.get(each.name, Memory()), now)
        for each in notifications
    }
    deliveries = await _deliver(outcomes, notifications, addresses, send or Sender())
    if ledger is not None and lease is not None:
        await _remember(ledger, lease, outcomes, deliveries)
    for each in deliveries:
        if each.why is None:
            get_logger().info("notification_sent", notification=each.name)
        else:
            get_logger().warning("notification_failed", notification=each.name, why=each.why)
    return deliveries


async def _deliver(
    outcomes: Mapping[str, Outcome],
    notifications: Sequence[Notification],
    addresses: Mapping[str, Address],
    send: Send,
) -> list[Delivery]:
    async def one(notification: Notification, message: Message) -> str | None:
        address = addresses.get(notification.name, NoAddress("its address is not given"))
        if isinstance(address, NoAddress):
            return address.why
        secret = address.reveal()
        try:
            await send(notification.format, secret, message)
        except Failed as error:
            return str(error)
        except Exception as error:
            return scrubbed(f"{type(error).__name__}: {error}", secret)
        return None

    tasks = {
        each.name: asyncio.create_task(one(each, message))
        for each in notifications
        if (message := outcomes[each.name].message) is not None
    }
    if not tasks:
        return []
    try:
        await asyncio.wait(tasks.values(), timeout=TELL_LIMIT.total_seconds())
    finally:
        late = [task for task in tasks.values() if not task.done()]
        for task in late:
            task.cancel()
        if late:
            await asyncio.wait(late)
    return [
        Delivery(
            name,
            f"all messages together took {TELL_LIMIT.total_seconds():g} s" if task.cancelled() else task.result(),
        )
        for name, task in tasks.items()
    ]


async def _remember(
    ledger: PostgresLedger, lease: Lease, outcomes: Mapping[str, Outcome], deliveries: Sequence[Delivery]
) -> None:
    sent = {each.name for each in deliveries if each.why is None}
    memories = {name: outcome.if_sent if name in sent else outcome.if_not for name, outcome in outcomes.items()}
    try:
        if not await ledger.end_telling(lease, news.memories_to_json(memories)):
            get_logger().warning("notifications_not_remembered", why="another check has taken over meanwhile")
    except LedgerError as error:
        get_logger().warning("notifications_not_remembered", why=str(error))


# --- sending -----------------------------------------------------------------------------------------------------


class Sender:
    """Sends for real, each message within ``SEND_LIMIT``."""

    def __init__(self) -> None:
        # One after another: each costs 50 MB while it lasts.
        self._one_apprise = asyncio.Semaphore(1)

    async def __call__(self, format: Format, address: str, message: Message) -> None:
        """Raises ``Failed``."""
        schemes = _SCHEMES[format]
        if not speaks(address, schemes):
            begins = " or ".join(f"{scheme}://" for scheme in schemes)
            raise Failed(f"its address is none that begins with {begins}, as format {format} needs")
        if format in ("json", "slack"):
            await _request("POST", address, news.to_json(message) if format == "json" else news.slack_json(message))
        else:
            async with self._one_apprise:
                await _by_apprise(address, message)


async def _by_apprise(address: str, message: Message) -> None:
    seconds = SEND_LIMIT.total_seconds()
    order = apprise_process.Order(
        address=address,
        title=message.title,
        text=message.text,
        kind=_KINDS[message.severity],
        seconds=seconds / 3,
    )
    child = await asyncio.create_subprocess_exec(
        sys.executable,
        "-P",  # A json.py in the folder we were started from is none of ours.
        "-m",
        apprise_process.__name__,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        # What it says there is not for us to read: a traceback may hold the address.
        stderr=asyncio.subprocess.DEVNULL,
    )
    try:
        async with asyncio.timeout(seconds):
            out, _ = await child.communicate(msgspec.json.encode(order))
    except TimeoutError:
        raise Failed(f"it took longer than {seconds:g} s") from None
    finally:
        if child.returncode is None:
            child.kill()
            await child.wait()
    try:
        why = msgspec.json.decode(out, type=apprise_process.Answer).why
    except msgspec.MsgspecError:
        raise Failed(f"Apprise's process ended with code {child.returncode}") from None
    if why is not None:
        raise Failed(scrubbed(why, address))


async def _request(method: str, address: str, body: bytes | None = None) -> None:
    """Done, when the answer is one of success. Follows nobody to another address. Raises ``Failed``."""
    import aiohttp

    seconds = SEND_LIMIT.total_seconds()
    headers = {"User-Agent": "tradingbot"} | ({"Content-Type": "application/json"} if body is not None else {})
    try:
        async with (
            # Knows the proxy of the environment, as Apprise does.
            aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=seconds), trust_env=True) as session,
            session.request(method, address, data=body, headers=headers, allow_redirects=False) as answer,
        ):
            status = answer.status
    except TimeoutError:
        raise Failed(f"no answer within {seconds:g} s") from None
    except (OSError, ValueError, aiohttp.ClientError) as error:
        raise Failed(_why(error)) from None
    if not 200 <= status < 300:
        raise Failed(f"it answers {status}")


def _why(error: Exception) -> str:
    """In words of our own: the library's have the host."""
    import aiohttp

    match error:
        case aiohttp.ClientConnectorCertificateError() | aiohttp.ClientConnectorSSLError():
            return "its certificate is not trusted, or it speaks no TLS"
        case aiohttp.ClientConnectorDNSError():
            return "its host's name is not known"
        case OSError(errno=int() as number) if number in errno.errorcode:
            return f"it can not be reached: {os.strerror(number)}"
        case aiohttp.InvalidURL():
            return "its address can not be read"
        case _:
            return f"it can not be reached: {type(error).__name__}"


# --- the ping ----------------------------------------------------------------------------------------------------


async def ping(report: Report, address: Address, clock: Clock) -> Delivery | None:
    """Call ``address`` if ``report`` passed, and some times more if it does not answer. Its silence is the alarm, so
    nothing is sent else; ``None`` then."""
    if report.result is not Status.PASSED:
        return None
    delivery = Delivery("ping", await _pinged(address, clock))
    if delivery.why is not None:
        get_logger().warning("ping_failed", why=delivery.why)
    return delivery


async def _pinged(address: Address, clock: Clock) -> str | None:
    if isinstance(address, NoAddress):
        return address.why
    secret = address.reveal()
    if not speaks(secret, ("https", "http")):
        return "its address is none that begins with https:// or http://"
    for pause in (*PING_PAUSES, None):
        try:
            await _request("GET", secret)
        except Failed as error:
            if pause is None:
                return f"{error} ({len(PING_PAUSES) + 1} attempts)"
            await clock.sleep(pause)
        else:
            break
    return None
