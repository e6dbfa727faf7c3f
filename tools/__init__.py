"""What builds and measures this project; nothing in it is part of the service or of training."""
