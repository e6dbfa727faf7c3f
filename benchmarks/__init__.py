"""How fast Windowcast is, beside others: one command each, see README.md here. Nothing in it is part of the service."""
