"""The first start of an InfluxDB with ``DOCKER_INFLUXDB_INIT_MODE=setup``: a server on another port is set up with
user, organization, bucket and token, and ended; then the lasting one takes its place.

As the official image has it, a setup that fails leaves nothing, and one that is killed leaves a server without a
user.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

PORT = "9999"
DATA = Path("/var/lib/influxdb2")
BOLT, ENGINE = DATA / "influxd.bolt", DATA / "engine"


def given(name: str) -> str:
    """By its variable, or by the file that ``NAME_FILE`` names."""
    file = os.environ.get(f"DOCKER_INFLUXDB_INIT_{name}_FILE")
    return Path(file).read_text().strip() if file else os.environ.get(f"DOCKER_INFLUXDB_INIT_{name}", "")


def setup() -> None:
    server = subprocess.Popen(["influxd", "--http-bind-address", f"127.0.0.1:{PORT}", "--log-level", "error"])
    address = f"http://127.0.0.1:{PORT}"
    for _ in range(300):
        try:
            urllib.request.urlopen(f"{address}/health", timeout=5).close()
            break
        except OSError:
            time.sleep(0.1)
    body = {
        "username": given("USERNAME"),
        "password": given("PASSWORD"),
        "org": given("ORG"),
        "bucket": given("BUCKET"),
        "token": given("ADMIN_TOKEN"),
    }
    request = urllib.request.Request(f"{address}/api/v2/setup", json.dumps(body).encode(), method="POST")
    urllib.request.urlopen(request, timeout=30).close()
    server.send_signal(signal.SIGINT)
    server.wait(30)


os.environ.setdefault("INFLUXD_CONFIG_PATH", "/etc/defaults/influxdb2/config.yml")
wanted = os.environ.get("DOCKER_INFLUXDB_INIT_MODE") == "setup" and sys.argv[1:2] == ["influxd"]
if wanted and not BOLT.exists():
    try:
        setup()
    except BaseException:
        BOLT.unlink(missing_ok=True)
        shutil.rmtree(ENGINE, ignore_errors=True)
        raise
os.execvp(sys.argv[1], sys.argv[1:])
