"""What a run is, as typed values: schema, overrides, checks, reading and writing."""
