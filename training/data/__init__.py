"""From a file or a built-in series to windows."""
