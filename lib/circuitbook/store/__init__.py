"""Measurements on disk: each one is made once, under a key of all that determines it, and read ever
after.
"""

from circuitbook.store.disk import Store, StoreError, default_store_path
from circuitbook.store.files import write_atomically
from circuitbook.store.keys import Key, measurement_key

__all__ = [
    "Key",
    "Store",
    "StoreError",
    "default_store_path",
    "measurement_key",
    "write_atomically",
]
