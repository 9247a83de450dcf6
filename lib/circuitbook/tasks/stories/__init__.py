"""The story language that the mini suite learns: `documents.document(rng)` draws one document."""
