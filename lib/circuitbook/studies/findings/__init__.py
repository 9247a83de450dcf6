"""What the chapters show and say: tables and sentences computed from measurements, a module for each chapter or theme."""
