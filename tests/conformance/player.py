"""What the suite must know of a provider beyond its contract, and who is entered.

Law: everything here is data about a vendor; nothing here asserts.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import msgspec

from gateway import catalogue, settings
from gateway.catalogue import Backend
from providers.guard import Guard
from providers.spec import Provider
from providers.transport import Transport
from tests.conformance import players
from tests.conformance.table import Ended, Thrown
from tests.vendors.script import Act, Op
from tests.vendors.server import Vendor

RECORDINGS = Path(__file__).parent.parent / "recordings"


@dataclass(frozen=True, kw_only=True)
class Player:
    """One provider, ready to be put before its vendor.

    `make` gets the vendor's address (a folder, where it renders on this machine) and a transport, and plants `secrets`
    as the credential. `deviations` are rows of the shared tables that this vendor has otherwise, by `call/trouble`
    (`submit/403`, `result/422`, `end/failure`). `staged` are options by which a renderer without a vendor server ends
    as asked: `failure`, `moderation`, `held` (it does not end until it is cancelled).
    """

    name: str
    make: Callable[[str, Transport], Provider]
    vendor: type[Vendor] | None = None  # None: it has no network
    secrets: tuple[str, ...] = ()
    polls: tuple[Op, ...] = (Op.STATUS,)  # the calls that one poll of an ended job makes, in their order
    hidden_error: Any = None  # what this vendor's 200 would look like if it hid an error
    policy_at_submit: Act | None = None  # its 422 for a forbidden prompt
    callbacks: bool = True  # whether a submit can name an address to call back
    protocol: str = ""  # one of several that it speaks enters alone: with the rows whose model ids begin with this
    spelling: Mapping[str, str] = field(default_factory=dict)  # its own word for our True, by our field
    deviations: Mapping[str, Thrown | Ended] = field(default_factory=dict)
    staged: Mapping[str, dict[str, Any]] = field(default_factory=dict)

    def __str__(self) -> str:
        return f"{self.name}-{self.protocol.rstrip(':')}" if self.protocol else self.name

    def adapter(self, url: str = "http://127.0.0.1:9", client: httpx.AsyncBaseTransport | None = None) -> Provider:
        """An adapter for looking at, or for calls that `client` carries; by default it can make none."""
        carrier = client or httpx.MockTransport(lambda request: httpx.Response(599))
        return self.make(url, Transport(guard=Guard(["127.0.0.1"]), client=carrier))

    @property
    def rows(self) -> tuple[Backend, ...]:
        """Its rows of the shipped catalogue."""
        rows = catalogue.load([settings.shipped() / "catalogue" / f"{self.name}.toml"]).backends
        return tuple(row for row in rows if all(id.startswith(self.protocol) for id in row.model_id.values()))

    def recording(self, name: str, shape: Any) -> Any:
        """One file of recorded pairs, decoded as `shape`."""
        return msgspec.json.decode((RECORDINGS / self.name / f"{name}.json").read_bytes(), type=shape)


def entered() -> tuple[Player, ...]:
    names = [entry.name for entry in pkgutil.iter_modules(players.__path__)]
    return tuple(importlib.import_module(f"{players.__name__}.{name}").PLAYER for name in names)
