"""From masks to counts and components, cached. The rest of `seg.data` and audit import it."""
