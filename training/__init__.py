"""Makes, from a table of numbers, the model version that `app` serves."""

import os

# TensorFlow reads these when it is imported, which any module below may be the first to do.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
# Without oneDNN every x86 machine computes the same numbers from the same seed.
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "0")
# A model trained with a GPU in sight may be exported with cuDNN operators, which no CPU can run.
os.environ["CUDA_VISIBLE_DEVICES"] = "-1"
