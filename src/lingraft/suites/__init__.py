"""General-ability suites: what is asked of every system, and a value for each item."""
