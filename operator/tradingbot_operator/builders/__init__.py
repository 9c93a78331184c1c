"""From a TradingBot to manifests: functions of their arguments, that know no API server."""
