"""The operator: it makes a TradingBot into agents and the servers that they need, and keeps it so.

    reconcile(bot) = observe → plan → apply → report

Pure are the builders (`builders/`: TradingBot → manifests), the plan and the status; the API server is reached by
`cluster.py` alone. `docs/architecture.md` draws it.
"""
