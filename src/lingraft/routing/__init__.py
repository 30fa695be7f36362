"""Routing: requests for translations go to a graft, everything else to its base, both of one model in memory."""
