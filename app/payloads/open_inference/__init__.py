"""Bodies of the Open Inference Protocol, with its binary extension."""
