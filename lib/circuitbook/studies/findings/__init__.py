"""What chapters conclude: tables and sentences computed from what was measured."""
