"""Time as a port: agents read a clock and ask for timers, and never sleep by themselves.

``VirtualClock`` and ``VirtualTimers`` are what a replay and the tests run on: time moves only when the driver
moves it, so that one seed gives one run. ``clock.system`` has the machine's time, for a process that runs one agent.
"""

from tradingbot_agents.clock.port import Clock, TimerHandle, TimerHandler, Timers
from tradingbot_agents.clock.virtual import VirtualClock, VirtualTimers

__all__ = ["Clock", "TimerHandle", "TimerHandler", "Timers", "VirtualClock", "VirtualTimers"]
