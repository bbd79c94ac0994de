"""Everything that talks, waits, reads or writes."""
