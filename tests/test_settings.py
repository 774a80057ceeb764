"""Configuration: layers, overrides, secrets, and errors that name their place and the nearest right word."""

from __future__ import annotations

from pathlib import Path

import pytest

from gateway.settings import SettingsError, load


def written(folder: Path, text: str) -> Path:
    path = folder / "mine.toml"
    path.write_text(text)
    return path


def test_the_shipped_file_alone_is_enough() -> None:
    settings = load(environ={})

    assert settings.server.port == 8080
    assert settings.routing.on_unknown == "fail"
    assert {"auto", "sora-2"} <= set(settings.routing.aliases)
    assert settings.accounts == ()


def test_the_operators_file_lies_over_the_shipped_one(tmp_path: Path) -> None:
    path = written(
        tmp_path, '[server]\nport = 9000\n[routing]\nsort = "price"\n[routing.aliases.mine]\nmodels = ["sandbox"]\n'
    )

    settings = load(path, environ={})

    assert settings.server.port == 9000
    assert settings.server.host == "127.0.0.1"
    assert settings.routing.sort == "price"
    assert {"auto", "mine"} <= set(settings.routing.aliases)


def test_the_environment_lies_over_the_file_and_the_command_line_over_both(tmp_path: Path) -> None:
    path = written(tmp_path, "[server]\nport = 9000\n")
    environ = {
        "FILMGATE_SERVER__PORT": "9001",
        "FILMGATE_SERVER__HOST": "::1",
        "FILMGATE_EGRESS__ALLOW": '["127.0.0.1"]',
    }

    settings = load(path, environ=environ, overrides={"server.port": 9002})

    assert settings.server.port == 9002
    assert settings.server.host == "::1"
    assert settings.egress.allow == ("127.0.0.1",)


def test_a_secret_comes_from_the_environment_and_is_never_shown(tmp_path: Path) -> None:
    path = written(tmp_path, '[providers.fal]\napi_key = "env:MY_KEY"\n')

    settings = load(path, environ={"MY_KEY": "id-of-nobody:secret-of-nobody"})

    (account,) = settings.accounts
    assert account.provider == "fal"
    assert account.settings.api_key.reveal() == "id-of-nobody:secret-of-nobody"
    assert "secret-of-nobody" not in repr(settings)


def test_a_provider_without_its_secret_is_not_configured(tmp_path: Path) -> None:
    settings = load(written(tmp_path, '[providers.fal]\napi_key = "env:NOT_SET"\n'), environ={})

    assert "fal" not in settings.configured


def test_a_provider_may_have_several_accounts(tmp_path: Path) -> None:
    text = """
[providers.fal]
base_url = "http://127.0.0.1:1"
callbacks = false
[[providers.fal.accounts]]
name = "a"
api_key = "key-of-a"
max_in_flight = 3
[[providers.fal.accounts]]
name = "b"
api_key = "key-of-b"
"""
    settings = load(written(tmp_path, text), environ={})

    assert [(a.name, a.max_in_flight, a.callbacks) for a in settings.accounts] == [("a", 3, False), ("b", None, False)]
    assert {a.settings.base_url for a in settings.accounts} == {"http://127.0.0.1:1"}


def test_dev_brings_the_sandbox_and_its_key() -> None:
    settings = load(environ={}, dev=True)

    assert settings.configured == {"sandbox"}
    assert settings.local_key is not None
    assert settings.local_key.reveal() == "dev"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[server]\nprot = 1\n", "mine.toml:1: unknown key 'server.prot'; did you mean 'port'?"),
        ("\n[sever]\nport = 1\n", "mine.toml:2: unknown key 'sever'; did you mean 'server'?"),
        ("[routing]\non_unknwon = 'fail'\n", "did you mean 'on_unknown'?"),
        (
            "[routing.aliases.x]\nmodles = []\n",
            "mine.toml:1: unknown key 'routing.aliases.x.modles'; did you mean 'models'?",
        ),
        ("[providers.fall]\napi_key = 'x'\n", "unknown key 'providers.fall'; did you mean 'fal'?"),
        ("[providers.fal]\nbase_ulr = 'x'\n", "unknown key 'providers.fal.base_ulr'; did you mean 'base_url'?"),
        ("[server]\nport = 'many'\n", "mine.toml:1: server.port: Expected `int`"),
        ("\n\n[routing]\non_unknown = 'panic'\n", "mine.toml:3: routing.on_unknown: Invalid enum value 'panic'"),
        ("[server\n", "mine.toml: "),
    ],
)
def test_a_fault_names_its_place_and_the_nearest_right_word(text: str, said: str, tmp_path: Path) -> None:
    with pytest.raises(SettingsError) as caught:
        load(written(tmp_path, text), environ={})

    assert said in str(caught.value)


def test_every_fault_is_told_at_once(tmp_path: Path) -> None:
    path = written(tmp_path, "[server]\nprot = 1\n[stoer]\nurl = 1\n")

    with pytest.raises(SettingsError) as caught:
        load(path, environ={"FILMGATE_SERVER__HSOT": "x"})

    assert len(caught.value.faults) == 3
    assert any(fault.startswith("the environment: unknown key 'server.hsot'") for fault in caught.value.faults)


def test_a_missing_file_is_said_plainly(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="there is no such file"):
        load(tmp_path / "none.toml", environ={})


def test_extra_catalogue_files_lie_beside_the_configuration(tmp_path: Path) -> None:
    settings = load(written(tmp_path, 'catalogue = ["extra.toml"]\n'), environ={})

    assert settings.catalogue[-1] == tmp_path / "extra.toml"
    assert len(settings.catalogue) > 1
