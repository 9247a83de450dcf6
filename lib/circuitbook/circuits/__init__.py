"""Circuits: scores of edges (EAP-IG), the smallest set of them that keeps the behaviour, how
similar two sets are."""
