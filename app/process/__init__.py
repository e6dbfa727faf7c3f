"""The process around the application: server, workers, signals, cores."""
