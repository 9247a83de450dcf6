"""From notebooks to a site: executing them, staging, building, checking, printing."""
