"""What a recorded program did, in words, pictures and the formats of other tools.

Rules: one pass over the calls feeds all of them. Whatever the record says is a claim: the types of arguments are looked
at before they are used, each collection here has a most, and text is made harmless where it is written out. Nothing
here reads a file but the record.
"""
