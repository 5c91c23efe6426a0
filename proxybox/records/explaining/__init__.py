"""What a recorded program did, in words, pictures and the formats of other tools.

Rules: one pass over the calls feeds all forms. The content of the record is a claim: the types of arguments are checked
before use, each collection has a size limit, and text is made harmless when it is written. No other file than the
record is read.
"""
