"""What `make docs` adds to the pages in `docs/`: the reference, written from the code."""
