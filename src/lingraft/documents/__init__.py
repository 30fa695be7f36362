"""Files with structure as segments to translate: one file a format, beside `data`."""
