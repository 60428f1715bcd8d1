"""Training of both phases: configuration, loss, loop, checkpoints."""
