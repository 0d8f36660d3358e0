"""Files that the stages write and read: they describe themselves, and say what they were made from."""
