"""Files that are whole or not there: artefacts, parts, records on disk."""
