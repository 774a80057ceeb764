"""The providers that the suite plays: one module each, with its `PLAYER`."""
