"""What holds for every test, and for the processes that the tests are shared out among."""

import os

# Its threads wait for work by turning in circles, which costs more than they ever do on arrays of this size.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
