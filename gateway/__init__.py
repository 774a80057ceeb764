"""The service: routes a clip to a backend, buys it once, follows it to its end."""
