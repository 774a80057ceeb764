"""The vendors' and OpenAI's own clients, unmodified, as judges of our servers."""
