"""The checks, a file each: ``CHECK`` is what ``tradingbot_agents.reality.check`` finds there."""
