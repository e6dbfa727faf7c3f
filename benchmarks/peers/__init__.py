"""The other servers: the smallest program for each that answers with the same kernel, as its manual would have it."""
