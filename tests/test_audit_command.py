"""`filmgate audit` against a vendor's own list, over sockets: an orphan bought behind our back is found."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.house import ROOT, free_port
from tests.vendors.server import Options
from tests.vendors.wavespeed import WaveSpeedServer

KEY = "planted-wavespeed-key-0123456789"


@pytest.fixture
def vendor(tmp_path: Path) -> Iterator[WaveSpeedServer]:
    with WaveSpeedServer(tmp_path / "vendor", Options()) as server:
        yield server


def audit(config: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "gateway", "audit", "--config", str(config), *words],
        capture_output=True,
        text=True,
        cwd=config.parent,
        env={**{k: v for k, v in os.environ.items() if not k.startswith("FILMGATE_")}, "PYTHONPATH": str(ROOT)},
        timeout=60,
    )


def test_a_job_that_was_bought_behind_our_back_is_an_orphan(vendor: WaveSpeedServer, tmp_path: Path) -> None:
    config = tmp_path / "filmgate.toml"
    config.write_text(
        f"""
[server]
port = {free_port()}
[store]
url = "sqlite:///{tmp_path}/filmgate.db"
[providers.wavespeed]
base_url = "{vendor.url}"
api_key = "{KEY}"
"""
    )
    before = audit(config)
    bought = httpx.post(
        f"{vendor.url}/api/v3/kwaivgi/kling-v3.0-pro/text-to-video",
        json={"prompt": "a lighthouse", "duration": 5, "sound": False, "aspect_ratio": "16:9"},
        headers={"authorization": f"Bearer {KEY}"},
        trust_env=False,
    )
    after = audit(config, "--json")

    assert before.returncode == 0, before.stderr
    assert "agrees with the ledger" in before.stdout
    assert bought.status_code == 200, bought.text
    (row,) = vendor.ledger()
    (finding,) = json.loads(after.stdout)
    assert after.returncode == 1
    assert (finding["kind"], finding["operation"]) == ("orphan", row.id)
    assert KEY not in after.stdout + after.stderr
