"""`filmgate` and `python -m gateway`: the command line's front door."""

from __future__ import annotations

from gateway.commands import main

if __name__ == "__main__":
    main()
