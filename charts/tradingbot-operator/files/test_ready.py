"""What `helm test` runs in a pod of the operator's image: is the operator ready, and does it count?"""

import os
import sys
import time
import urllib.error
import urllib.request

ADDRESS = os.environ["OPERATOR_URL"]
LIMIT = float(os.environ.get("OPERATOR_TEST_LIMIT", "60"))
METRICS = ("tradingbot_operator_bots", "tradingbot_operator_reconciles_total")


def ask(path: str) -> str:
    with urllib.request.urlopen(ADDRESS + path, timeout=5) as answer:
        text: str = answer.read().decode()
    return text


def problem() -> str | None:
    try:
        ask("/ready")
        page = ask("/metrics")
    except urllib.error.HTTPError as error:
        return f"{error.url} answers {error.code}: {error.read().decode().strip()}"
    except OSError as error:
        return f"{ADDRESS} can not be reached: {error}"
    missing = [name for name in METRICS if name not in page]
    return f"{ADDRESS}/metrics has no {missing[0]}" if missing else None


deadline = time.monotonic() + LIMIT
while (found := problem()) is not None:
    if time.monotonic() >= deadline:
        sys.exit(found)
    time.sleep(1)
print("the operator is ready")
