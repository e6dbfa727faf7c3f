"""The benchmarks whose figures are errors, not times: these can be wrong."""
