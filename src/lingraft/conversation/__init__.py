"""Answering a chat, directly or through a chain of translation: batch, streamed, in sessions."""
