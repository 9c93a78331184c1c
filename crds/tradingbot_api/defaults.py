"""Every default of a TradingBot, with its unit and the reason for it. There are no defaults anywhere else.

A default that could lose money is chosen on the careful side. What sizes a real trade (`risk.sizing`,
`risk.stopLoss`, a drawdown limit) has a default for paper only: testnet and live must write it out.
"""

from datetime import timedelta
from decimal import Decimal
from typing import Final

# ---------------------------------------------------------------------------------------------------- the bot

STATE: Final = "Running"  # A bot that was declared is meant to run.

TIMEFRAME: Final = "5m"
# Long enough that 30 s polling sees a candle's end early in the next one; short enough to show life within minutes.

UPDATE_STRATEGY: Final = "Manual"  # Nobody's typo restarts a bot that holds positions.

DELETION_POLICY: Final = "Block"  # Deleting a bot must not, by itself, leave or sell positions.

# ----------------------------------------------------------------------------------------------- the exchange

FEED: Final = "rest"
# The original's websocket connected, delivered nothing, and nobody noticed (DEV-71). REST fails visibly.

POLL_INTERVAL: Final = timedelta(seconds=30)
# Ten polls per 5-minute candle; for three symbols far below 1 % of the weight that Binance allows a minute.

REQUEST_TIMEOUT: Final = timedelta(seconds=10)
# Of one request. Exchanges answer in well under a second; past ten, the answer is lost and the order unresolved.

RECEIVE_WINDOW: Final = timedelta(seconds=5)
# How late the exchange still accepts a signed request. Binance's default; before its end "not found" is no answer.

RULES_INTERVAL: Final = timedelta(hours=1)
# Between reads of the market rules. Exchanges announce changes days ahead; an hour costs 24 requests a day.

REPLAY_SPEED: Final = Decimal("Infinity")  # "max": a replay that waits is the special case.

# The simulated exchange: a little worse than a liquid market, so that paper does not flatter.

SIMULATED_LATENCY: Final = timedelta(milliseconds=50)  # Of one request; a home line to a European exchange.

SIMULATED_SLIPPAGE: Final = Decimal("0.0005")
# Fraction of the price, against us. Ten times BTC/USDT's usual spread; smaller coins are about here.

SIMULATED_PARTICIPATION: Final = Decimal("0.10")
# Largest share of a candle's volume that one order takes. Above about a tenth an order moves the market itself.

SIMULATED_MAKER_FEE: Final = Decimal("0.001")
SIMULATED_TAKER_FEE: Final = Decimal("0.001")
# Fraction of the notional. Binance spot at its lowest tier, without discounts.

SIMULATED_FEE_CURRENCY: Final = "base"
# Buys are charged in what they receive, as Binance does without BNB. It is the harder case for a sellable exit.

SIMULATED_RATE_LIMIT: Final = 1200  # Requests a minute. Binance's limit of order requests is of this size.

# ------------------------------------------------------------------------------------------------ the account

HOLDINGS_AT_START: Final = "ignore"
# What the account held before the bot came belongs to its owner; the bot sells what it bought.

_DOLLARS = frozenset(
    {"USD", "USDT", "USDC", "FDUSD", "TUSD", "USDP", "USDD", "USDE", "PYUSD", "RLUSD", "DAI", "BUSD"}
)
_OTHER_MONEY = frozenset({"EUR", "EURC", "EURI", "GBP", "CHF", "AUD", "CAD"})
DOLLAR_LIKE: Final = _DOLLARS | _OTHER_MONEY
# Quote currencies in which people think in cents.

QUOTE_STEP_DOLLAR_LIKE: Final = Decimal("0.01")
QUOTE_STEP_OTHER: Final = Decimal("0.00000001")
# Smallest unit of the quote currency in which a budget is stated: 80 % of 84.54 is 67.63, not 67.632. Others (BTC,
# ETH, BNB) are counted to 8 places by every exchange.


def quote_step(currency: str) -> Decimal:
    """The default of `account.quoteStep`."""
    return QUOTE_STEP_DOLLAR_LIKE if currency in DOLLAR_LIKE else QUOTE_STEP_OTHER


# -------------------------------------------------------------------------------------------- data collection

HISTORY: Final = 500
# Candles per symbol kept back-filled; one request at most exchanges brings 500 or 1000. Never less than the window.

STALE_AFTER: Final = timedelta(minutes=2)
# Without any answer of the feed for a symbol: four missed polls at 30 s. Fewer would be one slow request.

SETTLE_DELAY: Final = timedelta(seconds=2)
# From a candle's close to the first question for it. Exchanges publish a closed candle within a second or so.

STREAM_SILENT_AFTER: Final = timedelta(seconds=60)
# Websocket connected and nothing received: the tickers of listed pairs come every second or so, quiet ones within
# a minute.

# --------------------------------------------------------------------------------------- analysis and strategy

FUSION: Final = "consensus"  # The one whose decisions a person can check by eye.

INDICATORS: Final = ("emaCross", "macd", "rsi", "bollinger", "adx", "obv")
# Two of trend, one each of momentum, volatility, strength and volume, so that they do not all say the same thing.

WINDOW_MINIMUM: Final = 200
# Candles in the rolling window when the indicators need fewer: what most charting sites load, so values agree.

MIN_CONFIDENCE: Final = Decimal("0.55")  # A little better than a coin, before fees.

SIGNAL_MAX_AGE: Final = timedelta(minutes=2)
# From the close of a signal's candle to a decision: one poll, one missed poll, and a minute for a dependency that
# stumbles. Later, the market has moved on.

SIGNAL_MEMORY: Final = 3
# Candles for which an indicator's last signal still counts in a fusion; crossings of different indicators are seldom
# in the same candle.

RECALL_TIMEOUT: Final = timedelta(seconds=2)
# For the last signals at a start: an answer over the bus takes milliseconds, and nobody answers while all start.

INTENT_TIME_TO_LIVE: Final = timedelta(seconds=60)
# From the strategy's decision to the reservation. Covers the approval window and a stumble of the bus; not longer
# than the shortest timeframe, so that no intent outlives its candle.

SELL_ON_SIGNAL: Final = True  # A fused SELL closes the position; otherwise only stops and targets would.

CONSENSUS_MINIMUM_AGREEMENT: Final = 2  # Indicators. One alone is no consensus.
CONSENSUS_THRESHOLD: Final = Decimal("0.60")  # Share of the weight that must agree: a clear majority.

TIME_DECAY_HALF_LIFE: Final = 2  # Candles until a signal counts half.
TIME_DECAY_THRESHOLD: Final = Decimal("0.50")  # Decayed score; lower than a consensus, since old signals shrink it.

BAYESIAN_PRIOR_ACCURACY: Final = Decimal("0.50")  # An indicator without a record is a coin.
BAYESIAN_PRIOR_STRENGTH: Final = 20  # Closed trades that the prior is worth; fewer would learn from luck.
BAYESIAN_THRESHOLD: Final = Decimal("0.60")  # Probability that the direction is right.

HYBRID_CONSENSUS_WEIGHT: Final = Decimal("0.4")
HYBRID_TIME_DECAY_WEIGHT: Final = Decimal("0.3")
HYBRID_BAYESIAN_WEIGHT: Final = Decimal("0.3")
# Consensus first: it needs no record, and the Bayesian part is a coin until it has one.
HYBRID_THRESHOLD: Final = Decimal("0.55")  # Weighted mean of the three; blends are milder than their parts.

INDICATOR_WEIGHT: Final = Decimal("1")  # All equal until someone knows better.

INDICATOR_PARAMETERS: Final[dict[str, dict[str, int | Decimal]]] = {
    # The periods are those of the indicators' authors, which every charting site shows; in candles.
    "emaCross": {"fast": 12, "slow": 26},
    "macd": {"fast": 12, "slow": 26, "signal": 9},
    "rsi": {"period": 14, "oversold": 30, "overbought": 70},  # Wilder's levels, of 0..100.
    "bollinger": {"period": 20, "std_dev": Decimal("2")},
    "atr": {"period": 14, "multiple": Decimal("1.5")},  # A move of 1.5 ranges is a breakout, not noise.
    "adx": {"period": 14, "threshold": 25},  # Wilder: a trend from 25 on.
    "obv": {"period": 20},  # Compared with its own average, over Bollinger's period.
    "vwap": {"period": 20, "std_dev": Decimal("2")},  # Rolling; bands as Bollinger's.
}

# ------------------------------------------------------------------------------------------------------- risk

MAX_PRICE_AGE: Final = timedelta(seconds=90)
# Three polls at 30 s: one may fail, and the price is still fresh. Fixed, and not derived from the timeframe: a daily
# strategy must not buy at a price of yesterday.

PRICE_CACHE: Final = timedelta(seconds=5)
# One query of InfluxDB per symbol and interval, however many intents come at once.

TICKER_TIMEOUT: Final = timedelta(seconds=2)
# For the ticker asked over the bus: the last step before `no_fresh_price`, well within an intent's time to live.

PRICE_FALLBACK_ALERT_AFTER: Final = 3  # Fallbacks in a row. One is a stumble, three are a defect.

WORST_PRICE_SLIPPAGE: Final = Decimal("0.005")
# Fraction above the price at which an entry's limit stands. Covers a liquid book with ease; what it could cost is
# reserved, so larger values lock more capital.

APPROVAL_ORDER: Final = "byConfidence"  # When the balance is short, the best intent gets it, not the fastest.
APPROVAL_WINDOW: Final = timedelta(milliseconds=250)
# How long intents are collected to be ranked. Three symbols' candles arrive within one poll, some tens of
# milliseconds apart; the price does not move much in a quarter of a second.

SIZING_METHOD: Final = "fixedFractional"
SIZING_FRACTION: Final = Decimal("0.10")  # Of equity for one position: ten fit, and one total loss is a tenth.

KELLY_CAP: Final = Decimal("0.25")  # Of equity. Kelly's formula trusts its inputs; this does not.
KELLY_MULTIPLIER: Final = Decimal("0.5")  # Half Kelly: three quarters of the growth, half of the swings.
KELLY_MINIMUM_TRADES: Final = 30  # Closed trades before win rate and payoff mean anything; until then, `fraction`.
KELLY_LOOKBACK: Final = 200  # Closed trades that count; older ones were another market.

VOLATILITY_TARGET_RISK: Final = Decimal(
    "0.01"
)  # Of equity lost when the price moves atrMultiple ranges: the 1 % rule.
VOLATILITY_ATR_PERIOD: Final = 14  # Candles; Wilder's.
VOLATILITY_ATR_MULTIPLE: Final = Decimal("2")  # Ranges; beyond noise, as most trailing stops are set.

SIZE_CAPS: Final = (
    # (equity below, largest share of it for one position); None is "and above". A small account cannot split
    # itself: below about 10 USDT a part is under the exchanges' minimum notional. A larger one must.
    (Decimal("1000"), Decimal("0.80")),
    (Decimal("10000"), Decimal("0.30")),
    (None, Decimal("0.10")),
)

STOP_LOSS: Final = Decimal("0.05")
# Fraction below the entry price. A day's usual range of BTC: noise does not reach it, a crash does.

TRAILING_STEP: Final = Decimal("0.001")
# Fraction of the price that a stop moves at least: each move of a stop on the exchange is a moment without one.

PROTECTIONS: Final = ("maxDrawdown",)  # One brake that always makes sense; the others are matters of style.

PROTECTION_PARAMETERS: Final[dict[str, dict[str, int | bool | Decimal | timedelta]]] = {
    # No new entries for `pause` once equity is `limit` below its highest of `lookback`.
    "maxDrawdown": {"limit": Decimal("0.15"), "lookback": timedelta(days=7), "pause": timedelta(days=1)},
    # No new entries until the next day (UTC) once the day's loss is `limit` of the equity it began with.
    "dailyLoss": {"limit": Decimal("0.05")},
    # No new entry for `pause` after a trade closed with a loss; an hour breaks a chain of revenge trades.
    "cooldown": {"pause": timedelta(hours=1), "per_symbol": True},
    # No new entries for `pause` after `count` stop-losses within `lookback`: the market is not what was assumed.
    "stopLossGuard": {
        "count": 3,
        "lookback": timedelta(days=1),
        "pause": timedelta(hours=12),
        "per_symbol": False,
    },
    # No more than `count` positions at once.
    "maxOpenPositions": {"count": 5},
    # No more than `share` of equity in one symbol, all its entries together.
    "maxSymbolShare": {"share": Decimal("0.30")},
    # Target's distance over stop's distance, after fees; below 1.5 most trades must win.
    "minRewardToRisk": {"ratio": Decimal("1.5")},
}

VALUE_AT_RISK_CONFIDENCE: Final = Decimal("0.95")  # The usual one; expected shortfall is reported at the same.
VALUE_AT_RISK_LOOKBACK: Final = 500  # Candles of returns: 25 of them lie in the tail of 5 %.

EQUITY_INTERVAL: Final = timedelta(hours=1)
# Between two records of the equity, from which drawdown and the day's loss are read: fine enough for either, and
# few enough rows to keep for years.

# -------------------------------------------------------------------------------------------------- execution

SEND_LIMIT: Final = timedelta(seconds=5)
# From the claim of an order to its sending. Later the claim is given up; only after this is "not found" an answer.

ENTRY_TIME_IN_FORCE: Final = "IOC"  # Entries fill at once or not at all, so that nothing stays reserved for hope.

ORDER_TIME_LIMIT: Final = timedelta(seconds=30)  # An order that is not final by then is cancelled and looked up.

EXIT_WATCH_INTERVAL: Final = timedelta(seconds=10)
# Between looks at stop-loss, target and trailing stop where the exchange holds none. In a replay: each candle.

MAX_EXIT_ATTEMPTS: Final = 5  # Sends of one exit before `position_unprotected` is raised to severe; it keeps trying.
EXIT_RETRY_DELAY: Final = timedelta(seconds=2)  # Before the second attempt; doubles with each.

STOPS_ON_EXCHANGE: Final = True  # A stop there works while everything here is down.
STOP_LIMIT_OFFSET: Final = Decimal("0.01")
# Fraction below the stop price at which a stop-limit's limit stands: wide enough that a jump seldom passes it.

EXIT_RETRY_DELAY_MAXIMUM: Final = timedelta(minutes=1)  # An exit is never left alone for longer.
CANCEL_RETRY_DELAY: Final = timedelta(seconds=2)  # Before a cancel without an answer is asked for again.

LOOK_UP_INTERVAL: Final = timedelta(seconds=2)  # Between two look-ups of an order whose outcome is open.
LOOK_UP_ATTEMPTS: Final = 5  # Look-ups of an unresolved order before "not found" is believed...
LOOK_UP_MARGIN: Final = timedelta(seconds=60)  # ...spread over this, since exchanges' indexes lag under load.

SWEEP_INTERVAL: Final = timedelta(
    seconds=5
)  # For approved orders that no message announced: rare, and one cheap query.

REAPPEAR_WINDOW: Final = timedelta(hours=1)
# For which an order that was not found is still looked for. Exchanges' indexes came back after minutes, not hours.

INSPECT_INTERVAL: Final = timedelta(minutes=1)
# Between looks for orders on the exchange that should not be there; one request.

FEE_PRICE_MAX_AGE: Final = timedelta(minutes=5)
# Of the price that values a fee in a third asset: a bookkeeping matter, nothing is bought at it.

RECONCILE_INTERVAL: Final = timedelta(minutes=5)
# Between comparisons of the exchange's balances with the ledger's. Outside movements are rare, requests cost.

# ---------------------------------------------------------------------------------------------------- runtime

STOP_LIMIT: Final = timedelta(seconds=20)  # To finish what is in flight; below Kubernetes' 30 s grace period.
RESTART_DELAY: Final = timedelta(seconds=1)  # Before an agent that failed is started again; doubles each time...
RESTART_DELAY_MAXIMUM: Final = timedelta(seconds=30)  # ...up to this, so that a mended dependency is soon noticed.
RESTART_ATTEMPTS: Final = 8  # In a row: about two minutes of trying, then a person is asked.
LEDGER_RETRY_DELAY: Final = timedelta(seconds=1)  # Before work is tried again that met a database out of reach.
OUTBOX_INTERVAL: Final = timedelta(seconds=1)  # Backup polling of the outbox; the relay itself wakes at each commit.
SPEC_INTERVAL: Final = timedelta(seconds=1)  # Between looks for a changed `state`; it must be obeyed within 5 s.
PROBE_INTERVAL: Final = timedelta(seconds=5)
# Who needs a part notices by itself at once; this is for the probes and metrics, and costs each part a request.
STUCK_AFTER: Final = timedelta(minutes=5)
# Dozens of requests that all meet REQUEST_TIMEOUT end within it; only what never ends takes longer.
LOG_LEVEL: Final = "info"  # Events and decisions; debug would hold every candle.

# -------------------------------------------------------------------------------------------------- messaging

MARKET_TIME_TO_LIVE: Final = timedelta(minutes=2)
# Of candles and signals in a queue. As SIGNAL_MAX_AGE: an older one makes no trade.
MARKET_QUEUE_LENGTH: Final = 10_000  # Messages; the oldest goes first. 50 symbols for an hour, some 5 MB.
DELIVERY_LIMIT: Final = 5  # Deliveries of a message before it is a dead letter. A poison message fails all of them.
DEAD_LETTER_RETENTION: Final = timedelta(days=30)  # Rare, and each a finding; an intent has long expired by then.
MESSAGING_CONNECT_TIMEOUT: Final = timedelta(seconds=5)
MESSAGING_PUBLISH_TIMEOUT: Final = timedelta(seconds=5)
# RabbitMQ confirms in milliseconds. Longer than a restart of the connection, far below an intent's time to live.
MESSAGING_RECONNECT_DELAY: Final = timedelta(milliseconds=250)
MESSAGING_RECONNECT_DELAY_MAXIMUM: Final = timedelta(seconds=2)
# A broker that is back is found at once: an attempt costs one refused connection.

MESSAGING_STORAGE: Final = 2**30  # Bytes (1Gi). Queues are short; the rest is RabbitMQ's own free-disk limit.
TIME_SERIES_STORAGE: Final = 5 * 2**30  # Bytes (5Gi): years of 5-minute candles of dozens of symbols.
DATABASE_STORAGE: Final = 5 * 2**30  # Bytes (5Gi): a busy year is below 1Gi, the rest is write-ahead log.
VOLUMES_WHEN_DELETED: Final = "Retain"  # Books about money are not removed by a mistyped delete.
PROVIDER: Final = "StatefulSet"  # Needs nothing else on the cluster.

TIME_SERIES_RETENTION: Final = timedelta(days=365)  # Of candles in InfluxDB; exchanges serve older ones again.
TIME_SERIES_HOURLY_RETENTION: Final = timedelta(days=5 * 365)
# Of hourly candles: a twelfth of the five-minute ones, and what a look at years needs.
TIME_SERIES_HOURLY_LATENESS: Final = timedelta(hours=3)
# How late a candle may come and still be in its hour's sum: longer than outages usually are.
TIME_SERIES_REQUEST_TIMEOUT: Final = timedelta(seconds=5)
# InfluxDB answers in milliseconds. Of an intent's time to live it leaves enough for the next step of the price chain.
TIME_SERIES_RETRY_DELAY: Final = timedelta(seconds=5)  # While it is frozen, each attempt costs a whole timeout.
TIME_SERIES_SPOOL_LENGTH: Final = (
    100_000  # Candles, some 15 MB: a year of one symbol at five minutes, a week of fifty.
)
TIME_SERIES_ORG: Final = "tradingbot"
TIME_SERIES_BUCKET: Final = "market"
STATEMENT_TIMEOUT: Final = timedelta(seconds=10)
# Statements take milliseconds; the account's lock is never held for longer than one. Ten seconds is a server that
# does not answer.
URL_KEY: Final = "url"  # Key of a Secret that holds an address.
TOKEN_KEY: Final = "token"  # Key of a Secret that holds InfluxDB's token.

BACKUP_SUSPENDED: Final = False  # Books about money are backed up unless someone says otherwise.
BACKUP_SCHEDULE: Final = "17 3 * * *"  # Nightly, not at the full hour when every other backup runs.
BACKUP_KEEP: Final = 7  # Backups; a week to notice.

HISTORY_EVENTS: Final = timedelta(days=90)  # A quarter: what a look at how a bot has done goes back to.
HISTORY_SEVERE_EVENTS: Final = timedelta(days=2 * 365)  # Few, and what a question about money comes back to.
HISTORY_REFUSALS: Final = timedelta(days=90)  # As events; a busy bot refuses some hundred intents a day.
HISTORY_REFUSALS_MINIMUM: Final = timedelta(days=1)
# Longer than any intent lives: once its refusal is forgotten it would be decided anew.
HISTORY_EQUITY: Final = timedelta(days=90)
# Of every point: longer than protections look back. Then three of a day are left, and stay.

# -------------------------------------------------------------------------------- reality check, notifications

REALITY_CHECK_SUSPENDED: Final = False  # The reason that a bot can be left running.
REALITY_CHECK_SCHEDULE: Final = "*/30 * * * *"  # The original's half hour.
REALITY_CHECK_WINDOW: Final = timedelta(
    minutes=35
)  # Of evidence: the half hour and an overlap, so nothing falls between.
REALITY_CHECK_TIME_LIMIT: Final = timedelta(minutes=5)  # A check that hangs is a finding, not a pod for ever.
REALITY_CHECK_RETENTION: Final = timedelta(days=30)  # Of stored reports: enough for a trend.
REALITY_CHECK_ON_SEVERE: Final = "ReduceOnly"  # A broken invariant of the books: no new risk until a person looked.

NOTIFICATION_MINIMUM_SEVERITY: Final = "warning"  # Expected refusals are no news at night.
NOTIFICATION_INTERVAL: Final = timedelta(minutes=5)  # At least between two of the same subject.
