"""The proving ground: policies side by side in simulated markets. `python -m tests.bench.routing --help`."""
