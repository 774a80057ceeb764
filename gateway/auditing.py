"""Holds a vendor's own list of jobs against ours: what was paid there and is unknown here, and where the cost differs.

Law: pure. Lists in, findings out; the caller fetched both.
"""

from __future__ import annotations

import enum
from collections.abc import Sequence

from gateway.jobs import Attempt, AttemptState
from providers.spec import Frozen, VendorJob


class Finding(enum.StrEnum):
    """What the auditor can find."""

    ORPHAN = "orphan"  # the vendor has a job that no attempt of ours names
    ADOPTABLE = "adoptable"  # an orphan that began while an attempt of unknown outcome was sent: most likely that one
    COST = "cost"  # both know the job, and its costs differ
    MISSING = "missing"  # we hold an operation that the vendor's list does not show


class Found(Frozen):
    """One finding. Money in micro-dollars, None where a side tells none."""

    kind: Finding
    provider: str
    account: str
    operation: str  # the vendor's id
    attempt: str | None = None
    ours_usd_micros: int | None = None
    theirs_usd_micros: int | None = None


def audit(
    provider: str, account: str, *, theirs: Sequence[VendorJob], ours: Sequence[Attempt], since_us: int
) -> tuple[Found, ...]:
    """Every difference on one account, for jobs begun since `since_us`. `ours` are the account's attempts since an hour
    or more before that, so that a job that began just after its intent is not taken for an orphan."""
    known = {a.operation.id: a for a in ours if a.operation is not None}
    doubtful = [a for a in ours if a.state in (AttemptState.UNKNOWN, AttemptState.WRITTEN_OFF, AttemptState.SUBMITTING)]
    found: list[Found] = []
    for job in theirs:
        attempt = known.get(job.id)
        if attempt is None:
            began = int(job.created_at.timestamp() * 1_000_000)
            near = next((a for a in doubtful if abs(began - a.started_us) < 120_000_000), None)
            found.append(
                Found(
                    kind=Finding.ADOPTABLE if near else Finding.ORPHAN,
                    provider=provider,
                    account=account,
                    operation=job.id,
                    attempt=near.id if near else None,
                    theirs_usd_micros=job.cost_usd_micros,
                )
            )
        elif (
            None not in (job.cost_usd_micros, attempt.cost_usd_micros)
            and job.cost_usd_micros != attempt.cost_usd_micros
        ):
            found.append(
                Found(
                    kind=Finding.COST,
                    provider=provider,
                    account=account,
                    operation=job.id,
                    attempt=attempt.id,
                    ours_usd_micros=attempt.cost_usd_micros,
                    theirs_usd_micros=job.cost_usd_micros,
                )
            )
    listed = {job.id for job in theirs}
    for id, attempt in known.items():
        if attempt.started_us >= since_us and id not in listed:
            found.append(
                Found(
                    kind=Finding.MISSING,
                    provider=provider,
                    account=account,
                    operation=id,
                    attempt=attempt.id,
                    ours_usd_micros=attempt.cost_usd_micros,
                )
            )
    return tuple(found)
