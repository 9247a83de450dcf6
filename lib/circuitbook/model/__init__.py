"""One loaded checkpoint: its shape and memory, its graph, its weights as plain tensors."""
