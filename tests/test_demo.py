"""The command line as a newcomer types it: the demo's own command, the decision before paying, and plain words when
something is wrong. Each runs as a process of its own."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import av
import pytest

from tests.house import ROOT


def filmgate(*words: str, cwd: Path, **environ: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "gateway", *words],
        capture_output=True,
        text=True,
        cwd=cwd,
        env={
            **{k: v for k, v in os.environ.items() if not k.startswith("FILMGATE_")},
            "PYTHONPATH": str(ROOT),
            **environ,
        },
        timeout=110,
    )


def demo_words() -> list[str]:
    """The demo's command, as the Makefile has it."""
    text = (ROOT / "Makefile").read_text().replace("\\\n", " ")
    line = re.search(r"filmgate (generate .*)", text)
    assert line is not None
    return [word.strip('"') for word in re.findall(r'"[^"]*"|\S+', line.group(1))]


@pytest.mark.parametrize("audio", [True, False])
def test_the_demo_makes_the_clip_that_was_asked_for(audio: bool, tmp_path: Path) -> None:
    words = demo_words()
    words[words.index("deploy/demo/valley.jpg")] = str(ROOT / "deploy/demo/valley.jpg")
    words[words.index("-o") + 1] = "demo.mp4"
    if not audio:
        words[words.index("--audio")] = "--silent"

    done = filmgate(*words, cwd=tmp_path)

    assert done.returncode == 0, done.stderr
    assert "best balance of money and minutes" in done.stderr  # the decision table
    assert "100 %" in done.stderr  # the progress bar, at its end
    assert done.stdout.strip() == "demo.mp4"
    with av.open(str(tmp_path / "demo.mp4")) as clip:
        (video,) = clip.streams.video
        assert video.codec_context.name == "h264"
        assert (video.width, video.height) == (1280, 720)
        assert video.average_rate == 24
        assert video.duration is not None
        assert video.time_base is not None
        assert abs(float(video.duration * video.time_base) - 5) <= 1 / 24
        assert [stream.codec_context.name for stream in clip.streams.audio] == (["aac"] if audio else [])


def test_route_prices_every_backend_and_marks_those_without_a_credential(tmp_path: Path) -> None:
    done = filmgate("route", "--seconds", "8", "--audio", "--json", cwd=tmp_path)

    decision = json.loads(done.stdout)
    prices = {r["backend"]: r["quote"]["usd_micros"] for r in decision["refusals"] if r["code"] == "no_credential"}
    assert prices["fal/kling-v3-pro"] == 1_344_000
    assert prices["fal/kling-v3-standard"] == 1_008_000
    assert list(tmp_path.iterdir()) == []  # asking leaves nothing behind


def test_a_key_makes_a_provider_a_candidate(tmp_path: Path) -> None:
    done = filmgate("route", "--model", "kling-v3-pro", "--json", cwd=tmp_path, FAL_KEY="id-of-nobody:secret-of-nobody")

    assert [one["backend"] for one in json.loads(done.stdout)["ranked"]] == ["fal/kling-v3-pro"]
    assert "secret-of-nobody" not in done.stdout + done.stderr


def test_route_orders_by_what_a_kept_clip_costs_and_says_why(tmp_path: Path) -> None:
    words = ("route", "--dev", "--model", "sandbox", "--sort", "kept_price", "--p90", "300")

    done = filmgate(*words, cwd=tmp_path, COLUMNS="300")

    assert done.returncode == 0, done.stderr
    assert "cheapest per kept clip first" in done.stdout
    assert re.search(r"1 +sandbox/thrifty +\$0.15\* +\$0.60 ", done.stdout)  # one clip in four is taken to be kept
    assert "70 % cheaper per kept clip than the fastest" in done.stdout


def test_backends_shows_what_is_known_of_each_and_who_is_out(tmp_path: Path) -> None:
    shown = filmgate("backends", "--dev", "--model", "auto", cwd=tmp_path, COLUMNS="300")
    program = filmgate("backends", "--dev", "--provider", "sandbox", "--json", cwd=tmp_path)
    unknown = filmgate("backends", "--provider", "sandbx", cwd=tmp_path)

    assert re.search(r"sandbox/swift +≤5s/silent +~5 s +11 s +- +- +90% +0/2 +- +\$0.1–0.14/s\*", shown.stdout), (
        shown.stdout
    )
    assert re.search(r"fal/kling-v3-pro .* no credential here", shown.stdout)
    assert {one["provider"] for one in json.loads(program.stdout)["data"]} == {"sandbox"}
    assert unknown.returncode == 1
    assert "did you mean 'sandbox'" in unknown.stderr
    assert list(tmp_path.iterdir()) == []  # asking leaves nothing behind


def test_an_impossible_clip_is_said_plainly(tmp_path: Path) -> None:
    done = filmgate("generate", "-", "rain", "--dev", "--model", "sandbox", "--seconds", "90", cwd=tmp_path)

    assert done.returncode == 1
    assert "seconds=20" in done.stderr
    assert "Traceback" not in done.stderr


def test_serve_without_a_key_says_how_to_make_one(tmp_path: Path) -> None:
    done = filmgate("serve", "--port", "18999", cwd=tmp_path)

    assert done.returncode == 1
    assert "filmgate keys create NAME" in done.stderr
    assert "Traceback" not in done.stderr


def test_keys_are_made_listed_and_revoked(tmp_path: Path) -> None:
    made = filmgate("keys", "create", "alice", cwd=tmp_path)
    listed = filmgate("keys", "list", cwd=tmp_path)
    revoked = filmgate("keys", "revoke", "alice", cwd=tmp_path)
    again = filmgate("keys", "revoke", "alice", cwd=tmp_path)

    key = made.stdout.splitlines()[-1]
    assert key.startswith("fg_live_")
    assert "alice" in listed.stdout
    assert key not in listed.stdout
    assert revoked.returncode == 0
    assert again.returncode == 1
    assert "no live key" in again.stderr


def test_check_names_the_file_and_the_line_of_a_fault(tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_text("\n[routing]\non_unknwon = 'fail'\n")

    done = filmgate("check", "--config", "mine.toml", cwd=tmp_path)

    assert done.returncode == 1
    assert "mine.toml:2" in done.stderr
    assert "did you mean 'on_unknown'" in done.stderr


def test_check_warns_of_old_prices(tmp_path: Path) -> None:
    fresh = filmgate("check", "--today", "2026-10-20", cwd=tmp_path)
    stale = filmgate("check", "--today", "2027-01-01", cwd=tmp_path)

    assert fresh.returncode == stale.returncode == 0
    assert "fal/kling-v3-pro" not in fresh.stdout
    assert "fal/kling-v3-pro: its price was last compared" in stale.stdout


@pytest.mark.parametrize("command", ["serve", "generate", "route", "backends", "check", "keys", "migrate"])
def test_help_has_examples(command: str, tmp_path: Path) -> None:
    assert "Example" in filmgate(command, "--help", cwd=tmp_path).stdout


def test_a_table_keeps_the_brackets_of_what_it_says(tmp_path: Path) -> None:
    done = filmgate("route", "--model", "ulazai/kling-v3-pro", cwd=tmp_path, COLUMNS="200")

    assert "[providers.ulazai]" in done.stdout
