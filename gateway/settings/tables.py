"""The tables of the configuration, as records: every key with its default and its meaning.

Law: data alone. How they are read is the package's business; `config/filmgate.toml` shows the same keys to people.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from gateway.catalogue import Alias
from gateway.jobs import Sort
from providers.spec import Frozen, Secret


class Server(Frozen):
    host: str = "127.0.0.1"
    port: int = 8080
    public_url: str | None = None  # where vendors and callers reach us; callbacks need it
    tls_cert: str | None = None  # a PEM file: the certificate, then its chain. Both, or the server speaks plain HTTP
    tls_key: str | None = None  # a PEM file: its private key, without a password
    streams_per_key: int = 1000  # event streams that one key may have open
    link_seconds: int = 86_400  # how long a signed link to a clip opens it
    metrics_port: int | None = None  # a plain listener of its own for GET /metrics, without a key
    metrics_host: str = "127.0.0.1"
    cors_origins: tuple[str, ...] = ()  # whose pages may call us from a browser: https://app.example.com, or "*"


class StoreSettings(Frozen):
    url: str = "sqlite:///filmgate.db"


class Egress(Frozen):
    allow: tuple[str, ...] = ()  # hosts that the URL guard lets through beyond public https


class Routing(Frozen):
    """How backends are chosen, and how long doubt may last. Times in seconds, money in US dollars."""

    sort: Sort = "balanced"
    usd_per_minute_of_waiting: float = 0.05
    on_unknown: Literal["fail", "resubmit", "hold"] = "fail"
    check_clips: bool = True  # a delivered clip is held against what was bought
    on_mismatch: Literal["warn", "fail", "failover"] = "warn"
    unknown_after_seconds: float = 600.0
    deadline_seconds: float = 3600.0
    stuck_after_seconds: float = 120.0  # the soonest that a render is given up for another backend
    max_attempts: int = 4  # attempts of one job that a vendor took on
    purse_factor: float = 2.0  # a job's purse over all attempts, in quotes, where the caller sets no max_price
    intent_seconds: float = 30.0  # a submit is sent this soon after its intent is on disk, or never
    read_seconds: float = 60.0  # how long a vendor's reply is waited for
    grace_seconds: float = 30.0
    aliases: dict[str, Alias] = {}

    @property
    def overdue_seconds(self) -> float:
        """So long after its intent, no reply to a submit can come any more."""
        return self.intent_seconds + self.read_seconds + self.grace_seconds


class Webhooks(Frozen):
    """How callers' addresses are told that a job has ended. Times in seconds."""

    # waits after a try in vain: those of Standard Webhooks, ten tries in 75 hours and 35 minutes
    retry_seconds: tuple[float, ...] = (5, 300, 1800, 7200, 18_000, 36_000, 50_400, 72_000, 86_400)
    jitter: float = 0.1  # of each wait, up or down
    timeout_seconds: float = 15.0
    at_once: int = 4  # tries to one endpoint, or one callback host; one, while it fails
    at_once_in_all: int = 256
    keep_days: float = 30.0  # how long the log of a delivery is kept after its end


class ArchiveSettings(Frozen):
    url: str | None = None  # file:///…, s3://…, gs://… or az://…; None: clips stay where their vendors keep them


class Retention(Frozen):
    """How long what belongs to an ended job is kept, in days; None: for ever. Its line in the ledger always stays."""

    clips_days: float | None = None
    prompts_days: float | None = None  # prompts, pictures, metadata, what vendors said
    test_days: float | None = 7.0  # both, of test keys' jobs: their clips lie on this machine
    compact_hours: float = 24.0  # the most often that the store is written anew after erasures; 0: never


class Log(Frozen):
    format: Literal["auto", "console", "json"] = "auto"  # auto: console in a terminal, else json
    level: Literal["debug", "info", "warning", "error"] = "info"


class Account(Frozen):
    """One credential at a provider."""

    provider: str
    name: str
    settings: Any  # the provider module's own Settings
    max_in_flight: int | None = None
    max_submits_per_minute: float | None = None
    callbacks: bool = True


class Tables(Frozen):
    """What both a file and the whole of the settings hold."""

    server: Server = Server()
    store: StoreSettings = StoreSettings()
    egress: Egress = Egress()
    routing: Routing = Routing()
    webhooks: Webhooks = Webhooks()
    archive: ArchiveSettings = ArchiveSettings()
    retention: Retention = Retention()
    log: Log = Log()


class File(Tables):
    """The tables of a configuration file, except `providers`, whose keys each provider's own Settings declares."""

    catalogue: tuple[str, ...] = ()


class Settings(Tables):
    """Everything that the operator decided."""

    accounts: tuple[Account, ...] = ()
    catalogue: tuple[Path, ...] = ()
    dev: bool = False
    fleeting: bool = False  # the store lives in a temporary folder, and only as long as the process
    local_key: Secret | None = None  # a key text that this process alone accepts: "dev", or a one-time key
    failpoint: str = ""

    @property
    def configured(self) -> frozenset[str]:
        """Providers with a credential."""
        return frozenset(account.provider for account in self.accounts)
