"""What is used of influxdb-client, imported without the four hundred modules that are not."""

from tradingbot_agents.lean_imports import hidden, import_by_halves

import_by_halves(
    "influxdb_client",
    "influxdb_client.client",
    "influxdb_client.client.write",
    "influxdb_client.domain",
    "influxdb_client.service",
)

# Points may hold numpy's numbers where it is installed; ours hold none.
with hidden("numpy"):
    from influxdb_client.client.flux_csv_parser import FluxCsvParserException, FluxQueryException
    from influxdb_client.client.influxdb_client_async import InfluxDBClientAsync
    from influxdb_client.client.write.point import Point, WritePrecision
    from influxdb_client.rest import ApiException

__all__ = [
    "ApiException",
    "FluxCsvParserException",
    "FluxQueryException",
    "InfluxDBClientAsync",
    "Point",
    "WritePrecision",
]
