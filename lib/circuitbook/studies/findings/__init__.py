"""What the chapters show and say: tables and sentences computed from measurements."""
