"""An OpenAI-compatible endpoint for a graft: questions, answers one after the other, and the protocol."""
