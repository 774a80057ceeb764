"""How to speak to each vendor of AI video. Knows no server, store, price or router."""
