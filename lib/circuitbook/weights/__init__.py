"""The files of a checkpoint, and a hub to get them from."""
