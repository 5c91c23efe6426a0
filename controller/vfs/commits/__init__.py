"""An overlay's changes written to the host, on the caller's word: planned whole, staged whole, checked, written down,
and then applied, so that never a byte is in neither place."""
