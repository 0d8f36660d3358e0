"""Files that the stages write and read: each says what it holds and which files it was made from."""
