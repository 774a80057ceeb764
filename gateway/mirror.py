"""What a test key sees: the whole catalogue as it stands, every provider with a credential, and no price that counts.

Law: pure. A mirrored row is its original in all that a caller can ask for and be refused, so that a request is matched,
priced and answered as a live key's would be; but what is bought there is filmed by a double in the sandbox, its price
is only ranked by, and it is quick. No credential comes along: nothing that is reached through the mirror can spend.

What differs from production, and why: every provider is in service, since there is nothing to set up for a test; the
sandbox's own rows, which no vendor could underbid, are left out of aliases unless live keys are served by them too; the
figures never learn, so that the same request is decided alike however many staged failures came before it.
"""

from __future__ import annotations

from typing import NamedTuple

import msgspec

from gateway.catalogue import Alias, Backend, Catalogue, TypicalSeconds, UnknownModel
from gateway.health import Health
from gateway.settings import Account, Settings

SANDBOX = "sandbox"  # the provider whose adapter films all of it
ACCOUNT = "test"  # the name of every mirrored provider's one account
RENDERS_AT_ONCE = 64  # of each provider: more wait in the sandbox's own line
HASTE = 50  # a double is so many times as quick as what it plays, as far as it is told to callers
QUICKEST_SECONDS = 0.5
POLL_SECONDS = 0.2


class Mirror(NamedTuple):
    """The rooms that a test key is shown, in the place of those of live keys."""

    settings: Settings
    catalogue: Catalogue
    health: Health


def mirror(settings: Settings, catalogue: Catalogue) -> Mirror:
    """The mirror of what live keys see."""
    providers = tuple(dict.fromkeys(row.provider for row in catalogue.backends))
    accounts = tuple(
        Account(provider=name, name=ACCOUNT, settings=None, max_in_flight=RENDERS_AT_ONCE, callbacks=False)
        for name in providers
    )
    aliases = settings.routing.aliases
    if SANDBOX not in settings.configured:
        aliases = {name: _without(alias, catalogue, SANDBOX) for name, alias in aliases.items()}
    return Mirror(
        settings=msgspec.structs.replace(
            settings, accounts=accounts, routing=msgspec.structs.replace(settings.routing, aliases=aliases)
        ),
        catalogue=Catalogue(_mirrored(row) for row in catalogue.backends),
        health=Health(dict.fromkeys(providers, (ACCOUNT,)), dict.fromkeys(providers, RENDERS_AT_ONCE)),
    )


def _mirrored(row: Backend) -> Backend:
    typical = row.typical_seconds
    return msgspec.structs.replace(
        row,
        # no vendor has such a model id: a last bar, should ever one be asked
        model_id=row.model_id if row.provider == SANDBOX else dict.fromkeys(row.model_id, f"double:{row.id}"),
        pretend=True,
        typical_seconds=TypicalSeconds(
            p50=max(typical.p50 / HASTE, QUICKEST_SECONDS), p95=max(typical.p95 / HASTE, 2 * QUICKEST_SECONDS)
        ),
        poll_floor_seconds=POLL_SECONDS,
    )


def _without(alias: Alias, catalogue: Catalogue, provider: str) -> Alias:
    """The alias without the models that this provider alone has; as it was where none would be left."""
    models = tuple(name for name in alias.models if not _only_by(name, catalogue, provider))
    return msgspec.structs.replace(alias, models=models) if models else alias


def _only_by(model: str, catalogue: Catalogue, provider: str) -> bool:
    try:
        found = catalogue.resolve(model, {})
    except UnknownModel:
        return False
    return {catalogue.rows[id][0].provider for id in found.backends} == {provider}
