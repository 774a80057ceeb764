"""TLS of the server's own: what is served, what is refused before anything listens, and who still finds in."""

from __future__ import annotations

import asyncio
import ssl
from pathlib import Path

import httpx
import msgspec
import pytest
from click.testing import CliRunner
from cryptography.hazmat.primitives.asymmetric import ec

from gateway import app, tls
from gateway.commands import client
from gateway.commands.check import check
from gateway.commands.serve import serve
from gateway.settings import Server, load
from tests.house import KEY, free_port, house, written
from tests.tls import Certificate, certificate, pem_of
from tests.vendors.fal import FalServer


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Certificate:
    return certificate(tmp_path_factory.mktemp("tls"))


def test_a_pair_that_belongs_together_is_taken(pair: Certificate) -> None:
    assert tls.files(Server(tls_cert=str(pair.cert), tls_key=str(pair.key))) == (pair.cert, pair.key)
    assert tls.files(Server()) is None


def test_what_cannot_be_served_with_is_said_with_what_to_do(pair: Certificate, tmp_path: Path) -> None:
    other, locked, words = tmp_path / "other.pem", tmp_path / "locked.pem", tmp_path / "words.pem"
    other.write_bytes(pem_of(ec.generate_private_key(ec.SECP256R1())))
    locked.write_bytes(pem_of(ec.generate_private_key(ec.SECP256R1()), b"a password"))
    words.write_text("no certificate at all")
    cert, key, absent = str(pair.cert), str(pair.key), str(tmp_path / "absent.pem")

    for server, said in (
        (Server(tls_cert=cert), "--tls-key FILE"),
        (Server(tls_key=key), "--tls-cert FILE"),
        (Server(tls_cert="", tls_key=key), "--tls-cert FILE"),
        (Server(tls_cert=absent, tls_key=key), "cannot be read: No such file"),
        (Server(tls_cert=cert, tls_key=absent), "cannot be read: No such file"),
        (Server(tls_cert=str(tmp_path), tls_key=key), "cannot be read: Is a directory"),
        (Server(tls_cert=cert, tls_key=str(other)), "belongs to another certificate"),
        (Server(tls_cert=cert, tls_key=str(locked)), "under a password"),
        (Server(tls_cert=str(words), tls_key=key), "not a certificate and its key in PEM"),
    ):
        with pytest.raises(tls.BadCertificate, match=said):
            tls.files(server)


def test_the_command_says_it_plainly_and_ends(pair: Certificate) -> None:
    done = CliRunner().invoke(serve, ["--dev", "--port", str(free_port()), "--tls-cert", str(pair.cert)])

    assert done.exit_code == 1
    assert "Error: a TLS certificate was given without its other half: add --tls-key FILE." in done.output


def test_check_finds_it_before_a_restart_does(pair: Certificate, tmp_path: Path) -> None:
    config = tmp_path / "mine.toml"
    config.write_text(f'[server]\ntls_cert = "{pair.cert}"\ntls_key = "{pair.cert}"\n')

    done = CliRunner().invoke(check, ["--config", str(config)])

    assert done.exit_code == 1
    assert "error: " in done.output
    assert "not a certificate and its key in PEM" in done.output


@pytest.mark.anyio
async def test_the_server_speaks_https_and_nothing_else(pair: Certificate, tmp_path: Path) -> None:
    with FalServer(tmp_path / "fal") as vendor:
        async with house(tmp_path / "gateway", vendor.url, tls=pair) as gateway:
            url = gateway.http.base_url
            well = await gateway.http.get("/healthz")
            with pytest.raises(httpx.TransportError):
                async with httpx.AsyncClient(trust_env=False) as plain:
                    await plain.get(f"http://127.0.0.1:{url.port}/healthz")
            with pytest.raises(httpx.ConnectError, match="CERTIFICATE_VERIFY_FAILED"):
                async with httpx.AsyncClient(trust_env=False) as stranger:
                    await stranger.get(f"{url}/healthz")
            old = pair.trusting()
            old.maximum_version = ssl.TLSVersion.TLSv1_2
            async with httpx.AsyncClient(verify=old, trust_env=False) as before:
                older = await before.get(f"{url}/healthz")

    assert (url.scheme, well.status_code, older.status_code) == ("https", 200, 200)


@pytest.mark.anyio
async def test_the_command_line_finds_in_by_the_authority_it_is_given(
    pair: Certificate, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(pair.authority))
    with FalServer(tmp_path / "fal") as vendor:
        async with house(tmp_path / "gateway", vendor.url, tls=pair) as gateway:
            settings = load(environ={})
            async with client.connected(str(gateway.http.base_url), KEY, settings) as http:
                rows = await http.backends(model="kling-v3-pro")

    assert b"fal/kling-v3-pro" in rows


@pytest.mark.anyio
async def test_a_server_of_the_command_lines_own_needs_no_certificate(pair: Certificate, tmp_path: Path) -> None:
    with FalServer(tmp_path / "fal") as vendor:
        settings = pair.served(load(written(tmp_path / "g", vendor.url, port=free_port()), environ={}))
        async with client.connected(None, None, settings, work=False) as http:
            rows = await http.backends(model="kling-v3-pro")

    assert b"fal/kling-v3-pro" in rows


@pytest.mark.anyio
async def test_dev_mode_serves_https_too(pair: Certificate) -> None:
    settings = load(dev=True, environ={})
    server = msgspec.structs.replace(settings.server, port=free_port())
    settings = pair.served(msgspec.structs.replace(settings, server=server))
    ready: asyncio.Future[str] = asyncio.get_running_loop().create_future()
    stop = asyncio.Event()
    serving = asyncio.create_task(app.serve(settings, ready=ready.set_result, stop=stop))
    try:
        url = await asyncio.wait_for(ready, 20)
        async with httpx.AsyncClient(verify=pair.trusting(), trust_env=False) as http:
            answer = await http.get(f"{url}/v1/videos", headers={"authorization": "Bearer dev"})
    finally:
        stop.set()
        await serving

    assert url == f"https://127.0.0.1:{settings.server.port}"
    assert answer.status_code == 200
