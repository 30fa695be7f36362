"""The HTML report, its plots and the model card."""
