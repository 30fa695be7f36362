"""What can be told from a text alone: codes and names of languages, identification, sentences, measures."""
