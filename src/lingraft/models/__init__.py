"""Base models and grafts: found, loaded, grown, joined, exported."""
