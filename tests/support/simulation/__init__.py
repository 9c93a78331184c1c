"""Deterministic simulation: one seed is one run of all five agents, with everything around them going wrong.

``run.simulate`` is the way in. The agents are the real ones, on the real embedded bus and virtual time; the exchange
(``exchange``), its prices (``market``) and the trouble (``faults``) are functions of the seed, and the ledger is the
reference model. ``world`` runs agents as processes (``process``) that can be killed, frozen and overtaken, ``checks``
says what must be true at each step and in the end, and ``planted`` has the bugs that all of this must find.
"""
