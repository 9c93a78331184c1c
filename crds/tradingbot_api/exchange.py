"""The spec's exchange and account: where a bot trades, and with whose balance."""

from typing import Annotated, Literal

import msgspec

from . import defaults
from .decimals import Amount, Fraction, FractionOrZero, PositiveDecimal, Speed
from .durations import Duration, DurationOrZero
from .model import DERIVED, WHOLE, Model, doc, settle
from .names import DnsSubdomain, ExchangeName, FilePath, ObjectName, SecretKey, Url
from .symbols import Currency
from .timestamps import Timestamp

Feed = Literal["rest", "websocket"]
FeeCurrency = Literal["base", "quote"]
HoldingsAtStart = Literal["adopt", "ignore"]

SIMULATED = "simulated"
"""The name of the exchange that replays candles."""


class SecretRef(Model, frozen=True, kw_only=True):
    """A Secret of the bot's namespace."""

    name: Annotated[DnsSubdomain, doc("Name of the Secret.")]


class UrlSecretRef(Model, frozen=True, kw_only=True):
    """A Secret of the bot's namespace and the key in it that holds an address."""

    name: Annotated[DnsSubdomain, doc("Name of the Secret.")]
    key: Annotated[
        SecretKey, doc("Key of the Secret whose value is the address, with user and password if it has them.")
    ] = defaults.URL_KEY


class Replay(Model, frozen=True, kw_only=True):
    """Candles that the simulated exchange plays again."""

    source: Annotated[
        FilePath,
        doc("Folder of candle files named BTC_USDT-5m.csv or .csv.gz, or one such file; relative to the spec file."),
    ]
    speed: Annotated[Speed, doc('"max", or how many times real time, such as "60".')] = defaults.REPLAY_SPEED
    start_time: Annotated[
        Timestamp | None, doc("First candle's opening; by default the first one of the source.")
    ] = None
    end_time: Annotated[
        Timestamp | None, doc("No candle that opens at or after this; by default the source's end.")
    ] = None


class Fees(Model, frozen=True, kw_only=True):
    """What the simulated exchange charges."""

    maker: Annotated[FractionOrZero, doc("Fraction of the notional, for orders that rested.")] = (
        defaults.SIMULATED_MAKER_FEE
    )
    taker: Annotated[FractionOrZero, doc("Fraction of the notional, for orders that took.")] = (
        defaults.SIMULATED_TAKER_FEE
    )


class Simulated(Model, frozen=True, kw_only=True):
    """How paper orders are filled, on replayed candles or on a real exchange's prices."""

    latency: Annotated[DurationOrZero, doc("From a request to its effect.")] = defaults.SIMULATED_LATENCY
    slippage: Annotated[FractionOrZero, doc("Fraction of the price that a taking order loses.")] = (
        defaults.SIMULATED_SLIPPAGE
    )
    participation: Annotated[Fraction, doc("Largest share of a candle's volume that one order takes.")] = (
        defaults.SIMULATED_PARTICIPATION
    )
    fees: Annotated[Fees, doc("Fees of a trade.")] = msgspec.field(default_factory=Fees)
    fee_currency: Annotated[
        FeeCurrency,
        doc(
            "Currency of a buy's fee: base (out of what it buys, as Binance does) or quote. A sell's fee is in quote."
        ),
    ] = defaults.SIMULATED_FEE_CURRENCY
    rate_limit: Annotated[
        Annotated[int, msgspec.Meta(ge=1, le=1_000_000)],
        doc("Requests a minute; more are refused as an exchange would."),
    ] = defaults.SIMULATED_RATE_LIMIT
    market_rules: Annotated[
        FilePath | None,
        doc("File with market rules of further symbols, or other rules of known ones; relative to the spec file."),
    ] = None


class Exchange(Model, frozen=True, kw_only=True):
    """Where candles come from and orders go."""

    name: Annotated[ExchangeName, doc("ccxt id of a spot exchange, such as binance; or simulated. Immutable.")]
    endpoint: Annotated[
        Url | None,
        doc("Base address to use in place of the exchange's own, for a proxy or a test server. Immutable."),
    ] = None
    feed: Annotated[Feed, doc("How market data arrives; websocket falls back to rest when it is silent.")] = (
        defaults.FEED
    )
    poll_interval: Annotated[Duration, doc("Between two polls of the feed by REST.")] = defaults.POLL_INTERVAL
    request_timeout: Annotated[
        Duration, doc("Longest wait for one answer; later, an order counts as unresolved.")
    ] = defaults.REQUEST_TIMEOUT
    receive_window: Annotated[Duration, doc("How late the exchange may still accept a signed request.")] = (
        defaults.RECEIVE_WINDOW
    )
    rules_interval: Annotated[
        Duration, doc("Between reads of the symbols' market rules (steps, minimums, fees).")
    ] = defaults.RULES_INTERVAL
    credentials_secret_ref: Annotated[
        SecretRef | None, WHOLE, doc("Secret with apiKey, secret and, where the exchange has one, password.")
    ] = None
    replay: Annotated[Replay | None, doc("Candles to replay; for, and only for, the simulated exchange.")] = None
    simulated: Annotated[Simulated | None, doc("How paper orders are filled; for mode paper only.")] = None


class Account(Model, frozen=True, kw_only=True):
    """Whose balance is used. Bots of a namespace that name the same account share one balance lock."""

    name: Annotated[ObjectName, doc("Name of the account. Immutable.")]
    quote_currency: Annotated[Currency, doc("Currency in which budgets and equity are counted. Immutable.")]
    quote_step: Annotated[
        PositiveDecimal,
        doc("Smallest unit in which budgets are stated; by default 0.01 of dollar-like currencies, else 0.00000001."),
    ] = DERIVED
    paper_balances: Annotated[
        Annotated[dict[Currency, Amount], msgspec.Meta(max_length=100)] | None,
        doc("What the account holds at the start, by currency; for mode paper only."),
    ] = None
    holdings_at_start: Annotated[
        HoldingsAtStart,
        doc(
            "Base currencies that the account holds at the start become positions (adopt) or are left alone (ignore)."
        ),
    ] = defaults.HOLDINGS_AT_START

    def __post_init__(self) -> None:
        settle(self, "quote_step", defaults.quote_step(self.quote_currency))
