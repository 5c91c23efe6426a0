"""One guest process, from its launch to its burial: started, watched, counted, copied by fork(2), ended."""
