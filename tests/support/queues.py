"""The bot's queues, for tests that are not about their limits."""

from datetime import timedelta

from tradingbot_agents.bus.topology import topology

BOT_QUEUES = topology(market_time_to_live=timedelta(minutes=5), market_length=10_000, delivery_limit=5)
