"""Vendor servers for tests: wire-faithful, scriptable, each with an append-only ledger of what it would bill."""
