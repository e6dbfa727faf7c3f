"""One connection of HTTP/1.1: heads, bodies, answers, and what bounds them."""
