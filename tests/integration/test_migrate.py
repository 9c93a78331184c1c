import time
from pathlib import Path
from tradingbot_agents.ledger.migrate import migrate, check_schema
from support.postgres import PostgresServer

async def test_x(ledger_dsn, postgres, tmp_path: Path):
    pass
async def test_y(ledger_dsn, postgres, tmp_path: Path):
    pass
