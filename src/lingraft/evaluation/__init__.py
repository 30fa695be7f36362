"""Translation quality, retained ability, and the statistics that compare systems."""
